//! Links in the pages of a pod: those that begin at the pod's root lead to the same place behind the proxy.
//!
//! A page is rewritten as it comes, so that neither its size nor its speed matters; what is remembered of it is bounded.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Method, header};
use lol_html::{
    AsciiCompatibleEncoding, MemorySettings, element,
    errors::RewritingError,
    send::{HtmlRewriter, Settings},
};
use parking_lot::Mutex;

use super::Backend;

/// How much of a page is held back at most, in bytes: a tag that is longer ends the answer.
const MOST: usize = 1 << 20;

/// The attributes that are links, of whatever element.
const LINKS: &[&str] = &[
    "action",
    "background",
    "cite",
    "codebase",
    "data",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "manifest",
    "poster",
    "profile",
    "src",
    "usemap",
];

/// Whether somebody who looks at pages asks: a pod's answer must be readable then.
pub(super) fn ask_readable(headers: &mut HeaderMap) {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/html") {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
}

/// Rewrites the links of an answer if it is a page that can be read.
pub(super) fn rewrite(response: Response, method: &Method, base: &str, backend: &Backend) -> Response {
    let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_page = text(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
    });
    let is_readable =
        text(header::CONTENT_ENCODING).is_none_or(|coding| coding.eq_ignore_ascii_case("identity"));
    if !is_page || !is_readable || method == Method::HEAD {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    let page = Page::new(base, backend);
    let pieces = stream::unfold(Some((page, body.into_data_stream())), |state| async move {
        let (mut page, mut body) = state?;
        loop {
            let piece = match body.next().await {
                None => return page.end().transpose().map(|last| (last, None)),
                Some(Err(error)) => return Some((Err(error.to_string()), None)),
                Some(Ok(piece)) => page.take_in(&piece),
            };
            match piece {
                Ok(None) => {}
                Ok(Some(piece)) => return Some((Ok(piece), Some((page, body)))),
                Err(error) => return Some((Err(error), None)),
            }
        }
    });
    Response::from_parts(parts, Body::from_stream(pieces))
}

/// Takes what is done of a page.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A page on its way.
struct Page {
    rewriter: HtmlRewriter<'static, Sink>,
    /// What is done and not yet sent.
    done: Arc<Mutex<Vec<u8>>>,
}

impl Page {
    fn new(base: &str, backend: &Backend) -> Self {
        let done = Arc::<Mutex<Vec<u8>>>::default();
        let sink = Arc::clone(&done);
        let base = base.to_owned();
        let own = [format!("http://{}", backend.host()), format!("https://{}", backend.host())];
        let links = element!("*", move |element| {
            for name in LINKS {
                let Some(link) = element.get_attribute(name) else { continue };
                if let Some(link) = behind(&link, &base, &own) {
                    element.set_attribute(name, &link)?;
                }
            }
            Ok(())
        });
        let settings = Settings::new_send()
            .append_element_content_handler(links)
            .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(MOST))
            .with_encoding(AsciiCompatibleEncoding::utf_8());
        let output: Sink = Box::new(move |piece: &[u8]| sink.lock().extend_from_slice(piece));
        Self { rewriter: HtmlRewriter::new(settings, output), done }
    }

    /// Takes a piece in; what can be sent by now.
    fn take_in(&mut self, piece: &[u8]) -> Result<Option<Bytes>, String> {
        self.rewriter.write(piece).map_err(|error| said(&error))?;
        Ok(self.take())
    }

    /// What is left at the end.
    fn end(self) -> Result<Option<Bytes>, String> {
        let Self { rewriter, done } = self;
        rewriter.end().map_err(|error| said(&error))?;
        let rest = std::mem::take(&mut *done.lock());
        Ok((!rest.is_empty()).then(|| rest.into()))
    }

    fn take(&self) -> Option<Bytes> {
        let done = std::mem::take(&mut *self.done.lock());
        (!done.is_empty()).then(|| done.into())
    }
}

fn said(error: &RewritingError) -> String {
    format!("the page's links cannot be rewritten: {error}")
}

/// Where a link leads behind the proxy, if it does not lead there as it is.
fn behind(link: &str, base: &str, own: &[String]) -> Option<String> {
    let trimmed = link.trim();
    let path = own.iter().find_map(|own| trimmed.strip_prefix(own.as_str())).unwrap_or(trimmed);
    let path = if path.is_empty() && !trimmed.is_empty() { "/" } else { path };
    let is_behind =
        path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    (path.starts_with('/') && !path.starts_with("//") && !is_behind).then(|| format!("{base}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/api/v1/namespaces/d/pods/web:80/proxy";

    #[test]
    fn links_from_the_root_lead_behind_the_proxy_others_stay() {
        let own = ["http://10.42.1.9:80".to_owned()];
        let of = |link: &str| behind(link, BASE, &own);
        assert_eq!(of("/a?b#c"), Some(format!("{BASE}/a?b#c")));
        assert_eq!(of("http://10.42.1.9:80/x"), Some(format!("{BASE}/x")));
        assert_eq!(of("http://10.42.1.9:80"), Some(format!("{BASE}/")));
        for stays in ["", "a", "./a", "//elsewhere/a", "https://elsewhere/", "#here", &format!("{BASE}/a")] {
            assert_eq!(of(stays), None, "{stays}");
        }
        assert_eq!(of(&format!("{BASE}d")), Some(format!("{BASE}{BASE}d")));
    }
}
