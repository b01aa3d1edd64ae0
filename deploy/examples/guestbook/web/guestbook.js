"use strict";

const at = (id) => document.getElementById(id);

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function call(options) {
  const response = await fetch("api/entries", options);
  const answer = await response.json().catch(() => ({ error: `status ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function item(entry) {
  const line = document.createElement("li");
  const parts = { strong: entry.name, time: new Date(entry.at).toLocaleString(), p: entry.message };
  for (const [tag, text] of Object.entries(parts)) {
    line.appendChild(document.createElement(tag)).textContent = text;
  }
  return line;
}

async function show() {
  try {
    const book = await call();
    at("title").textContent = document.title = book.title;
    at("entries").replaceChildren(...book.entries.reverse().map(item));
    at("served").textContent = `version ${book.version}, served by ${book.pod} on ${book.node}`;
    at("problem").textContent = "";
  } catch (error) {
    at("problem").textContent = error.message;
  }
}

// The key stays the same until the entry is stored: pressing the button again after a failure is safe.
let key = newKey();

at("sign").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    await call({
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    key = newKey();
    form.reset();
    await show();
  } catch (error) {
    at("problem").textContent = error.message;
  }
});

show();
setInterval(show, 5000);
