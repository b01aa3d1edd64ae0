//! port-forward, to servers that listen on their pod's 127.0.0.1 alone.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use super::{
    expect,
    hands::{Going, Hands, PATIENCE, checksum, sequence},
};

/// Starts forwarding, and answers with the local port.
fn forward(hands: &Hands<'_>, target: &str, port: u16) -> Result<(Going, u16), String> {
    let going = hands.start(&["port-forward", target, &format!(":{port}")])?;
    let said = going.wait_for("\n")?;
    let local = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let local = local.parse().map_err(|_| format!("no port in {said:?}"))?;
    Ok((going, local))
}

/// The pod behind the deployment.
fn pod(hands: &Hands<'_>) -> Result<String, String> {
    let name = hands.get(&["get", "pod", "-l", "app=forwarded", "-o", "name"])?;
    Ok(name.trim().to_owned())
}

fn connect(port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    Ok(stream)
}

/// The body of an answer.
fn fetch(port: u16, path: &str) -> Result<Vec<u8>, String> {
    let mut stream = connect(port)?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let head = head.ok_or_else(|| format!("no answer but {} bytes", answer.len()))?;
    let body = answer.split_off(head + 4);
    let head = super::text(&answer);
    expect("answer", head.contains("200 OK"), &head)?;
    Ok(body)
}

fn serves_twice(port: u16) -> Result<(), String> {
    for _ in 0..2 {
        let page = fetch(port, "/")?;
        expect("page", page == b"served\n", page)?;
    }
    Ok(())
}

pub fn page(hands: &Hands<'_>) -> Result<(), String> {
    let (_going, port) = forward(hands, &pod(hands)?, 8000)?;
    serves_twice(port)
}

/// Four transfers of 31 MB, one of them read late, and a page beside them.
pub fn several(hands: &Hands<'_>) -> Result<(), String> {
    let (_going, port) = forward(hands, &pod(hands)?, 8000)?;
    let content = sequence(4_000_000);
    let fetched = std::thread::scope(|scope| {
        let fetching: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(port, "/large"))).collect();
        let page = fetch(port, "/");
        let fetched: Vec<_> = fetching.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        page.map(|_| fetched)
    })?;
    for body in fetched {
        let body = body.map_err(|_| "a reader panicked".to_owned())??;
        expect("content", body == content, body.len())?;
    }
    Ok(())
}

/// The client's end of sending is not its end of reading.
pub fn half_close(hands: &Hands<'_>) -> Result<(), String> {
    let (_going, port) = forward(hands, &pod(hands)?, 9000)?;
    let content = sequence(1_500_000);
    let mut stream = connect(port)?;
    stream.write_all(&content).map_err(|error| error.to_string())?;
    stream.shutdown(Shutdown::Write).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    expect("checksum", answer.starts_with(&checksum(&content)?), answer)
}

pub fn unknown_port(hands: &Hands<'_>) -> Result<(), String> {
    let (going, port) = forward(hands, &pod(hands)?, 8001)?;
    let mut stream = connect(port)?;
    let mut answer = Vec::new();
    // Closed or reset, but not left waiting.
    let _ = stream.read_to_end(&mut answer);
    expect("answer", answer.is_empty(), answer)?;
    let said = going.wait_for("Connection refused")?;
    expect("reason", said.contains("localhost:8001"), said)
}

pub fn service(hands: &Hands<'_>) -> Result<(), String> {
    let (_going, port) = forward(hands, "service/forwarded", 80)?;
    serves_twice(port)
}

pub fn deployment(hands: &Hands<'_>) -> Result<(), String> {
    let (_going, port) = forward(hands, "deployment/forwarded", 8000)?;
    serves_twice(port)
}
