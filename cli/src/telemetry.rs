//! Logs and metrics of a process: tracing to standard error, Prometheus on a local address.

mod metrics;

use std::fmt;

use anyhow::Context as _;
use tracing::{Event, Subscriber, field::Field, field::Visit};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use crate::{
    args::{LogFormat, Logging},
    output,
};

pub(crate) use self::metrics::start_metrics;

/// Starts logging for the process called `process`; events below `default_level` are dropped unless
/// the operator says otherwise.
pub(crate) fn start_logs(
    process: &'static str,
    default_level: &str,
    logging: &Logging,
) -> anyhow::Result<()> {
    let wanted = logging.log_level.as_deref().unwrap_or(default_level);
    // Two lines per DNS query would drown everything else, and what a client fails at its caller says; an explicit
    // directive still wins.
    let filter = EnvFilter::try_new(format!(
        "hickory_server=warn,hickory_proto=warn,hickory_resolver=warn,kube_client=off,{wanted}"
    ))
    .with_context(|| format!("--log-level {wanted:?} is not a level or a list of directives"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Line { process, format: logging.log_format })
        .try_init()
        .map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(%message, %location, %backtrace, "panicked");
}

/// One event as one line that names the process, so that a member's log can be read as one stream.
struct Line {
    process: &'static str,
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let now = jiff::Timestamp::now();
        match self.format {
            LogFormat::Text => {
                let message = output::printable(&fields.message);
                write!(writer, "{now:.3} {level:>5} {} {target}: {message}", self.process)?;
                for (name, value) in &fields.others {
                    match value {
                        serde_json::Value::String(text) if is_plain(text) => {
                            write!(writer, " {name}={text}")?
                        }
                        // JSON leaves some of them as they are (DEL, the second set of controls, marks of direction).
                        value => write!(writer, " {name}={}", output::printable(&value.to_string()))?,
                    }
                }
                writeln!(writer)
            }
            LogFormat::Json => {
                let mut line = serde_json::Map::new();
                line.insert("timestamp".into(), now.to_string().into());
                line.insert("level".into(), level.as_str().into());
                line.insert("process".into(), self.process.into());
                line.insert("target".into(), target.into());
                line.insert("message".into(), fields.message.into());
                let others =
                    fields.others.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                line.insert("fields".into(), serde_json::Value::Object(others));
                writeln!(writer, "{}", escaped(&serde_json::Value::Object(line).to_string()))
            }
        }
    }
}

/// JSON in which what a terminal would act upon is escaped too: a log is read by people as well.
fn escaped(json: &str) -> String {
    let escape = |c: char| match c {
        c if output::is_printable(c) => c.to_string(),
        c => {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }
    };
    json.chars().map(escape).collect()
}

/// Whether a text value needs no quotes in a text log.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || !output::is_printable(c) || c == '"')
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        self.add(field, text.into());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        log_of(format, || {
            let error = anyhow::anyhow!("no route").context("cannot reach it");
            tracing::info!(
                peer = "node 2",
                mtu = 1420,
                error = &*error as &dyn std::error::Error,
                "peer added"
            );
        })
    }

    fn log_of(format: LogFormat, logs: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(Line { process: "netd", format })
            .finish();
        tracing::subscriber::with_default(subscriber, logs);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_names_the_process_and_quotes_what_needs_it() {
        let line = logged(LogFormat::Text);
        assert!(line.contains(" INFO netd "), "{line}");
        assert!(
            line.ends_with(": peer added peer=\"node 2\" mtu=1420 error=\"cannot reach it: no route\"\n"),
            "{line}"
        );
    }

    #[test]
    fn nobody_forges_a_line_of_the_log() {
        let forged = "x\n2026-01-01T00:00:00.000 INFO controller\u{1b}[2J\u{9b}\u{202e}\u{7f}\r";
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = log_of(format, || {
                tracing::info!(image = forged, error = %forged, list = ?[forged], "pulled {forged}");
            });
            assert_eq!(line.lines().count(), 1, "{line:?}");
            let text = line.trim_end_matches('\n');
            let bad = |c: char| c.is_control() || (format == LogFormat::Text && !output::is_printable(c));
            assert!(!text.contains(bad), "{line:?}");
        }
    }

    #[test]
    fn json_is_one_object_per_line() {
        let line: serde_json::Value = serde_json::from_str(logged(LogFormat::Json).trim_end()).unwrap();
        assert_eq!(line["process"], "netd");
        assert_eq!(line["message"], "peer added");
        assert_eq!(line["fields"]["mtu"], 1420);
        assert_eq!(line["fields"]["error"], "cannot reach it: no route");
    }
}
