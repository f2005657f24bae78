//! `serve` and `health`.

use super::{Failure, Outcome, open};
use crate::config::Config;
use crate::http::{self, App, Side, listen};
use crate::shutdown::{self, Signals};
use crate::{fetch, telemetry};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

/// What may still take its time when `drain_seconds` are over: cutting connections, the last spans, and jobs that the drain was too
/// short for. With what [`super::LEFT_BEHIND`] adds, a server of the usual settings is gone 28 seconds after the signal, of the 30 that
/// Kubernetes waits.
const AFTER_DRAIN: Duration = Duration::from_secs(2);

/// Runs the server until a signal ends it; `listening` is called when clients are listened to.
pub(super) async fn serve(config: Config, listening: fn()) -> Outcome {
    telemetry::init_logging(&config.log_level, config.log_json());
    telemetry::log_panics();
    raise_file_limit(config.max_connections);
    let signals = shutdown::install()?;
    let (shutdown, limit) = (signals.shutdown.clone(), config.drain().saturating_add(AFTER_DRAIN));
    ended_within(limit, shutdown, Box::pin(run(config, signals, listening))).await
}

/// Waits for `whole`, but from the shutdown on no longer than `limit`: whoever told the process to go kills it soon after.
async fn ended_within(
    limit: Duration,
    shutdown: CancellationToken,
    whole: impl Future<Output = Outcome>,
) -> Outcome {
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        outcome = whole => outcome,
        () = too_late => {
            tracing::warn!(seconds = limit.as_secs(), "the time to end is over, leaving what has not ended");
            Ok(())
        }
    }
}

async fn run(config: Config, signals: Signals, listening: fn()) -> Outcome {
    let started = std::time::Instant::now();
    if config.allow_hub {
        // A hub that cannot be asked should end the start, not somebody's request.
        fetch::hub::Hub::from_env()?;
    }
    let registry = open::registry(&config).await?;
    if config.bucket().is_some() && config.watch().is_none() {
        tracing::warn!("watch_seconds is 0: what other replicas publish is served after a reload only");
    }
    // Bound before anything is acknowledged, so that a port in use ends the start at once.
    let listener = TcpListener::bind(config.listen_addr())
        .await
        .map_err(Failure::of(format!("cannot listen on {}", config.listen)))?;
    let operators = match config.admin_addr() {
        None => None,
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(Failure::of(format!("cannot listen on {}", config.admin_listen)))?)
        }
    };
    let app = App::open(config, registry, signals.shutdown.clone()).await?;
    tokio::spawn(reload(Arc::clone(&app), signals.reload));

    let address = listener.local_addr()?;
    let ms = started.elapsed().as_millis() as u64;
    listening();
    tracing::info!(%address, tls = app.tls.is_some(), version = env!("CARGO_PKG_VERSION"), ready_ms = ms, "listening");
    let config = &app.config;
    let settings = listen::ListenSettings {
        header_timeout: config.header_timeout(),
        body_timeout: config.body_timeout(),
        idle_timeout: config.idle_timeout(),
        drain: config.drain(),
        max_connections: config.max_connections,
        tls: app.tls.clone(),
    };
    let serve = async |listener: TcpListener, side| {
        let router = http::router(Arc::clone(&app), side);
        let (connections, shutdown) = (Arc::clone(&app.connections), signals.shutdown.clone());
        listen::serve(listener, router, settings.clone(), connections, shutdown).await
    };
    // From the signal on, beside the drain: what jobs have done is kept, and no open request needs them.
    let jobs = async {
        app.shutdown.cancelled().await;
        app.jobs.close().await;
        Ok(())
    };
    match operators {
        None => {
            tokio::try_join!(jobs, serve(listener, Side::All))?;
        }
        Some(operators) => {
            let address = operators.local_addr()?;
            tracing::info!(%address, "listening for operators");
            tokio::try_join!(jobs, serve(listener, Side::Public), serve(operators, Side::All))?;
        }
    }
    if let Some(traces) = &app.traces {
        traces.close().await;
    }
    tracing::info!("ended");
    Ok(())
}

/// Files that are open beside the connections.
const OTHER_FILES: u64 = 256;

/// Lets this process have as many files open as it may: each connection is one, and 1024 is what many a system begins with.
fn raise_file_limit(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let needed = connections as u64 + OTHER_FILES;
    if let Some(files) = getrlimit(Resource::Nofile).current.filter(|most| *most < needed) {
        tracing::warn!(files, needed, "fewer files may be open than max_connections needs: raise ulimit -n");
    }
}

/// Reads the store, the keys and the certificate again at each SIGHUP, and every `watch_seconds` where that is set.
async fn reload(app: Arc<App>, mut asked: Receiver<()>) {
    loop {
        let timer = async {
            match app.config.watch() {
                Some(period) => tokio::time::sleep(period).await,
                None => std::future::pending().await,
            }
        };
        let watched = tokio::select! {
            () = app.shutdown.cancelled() => return,
            message = asked.recv() => if message.is_none() { return } else { false },
            () = timer => true,
        };
        let report = app.reload().await;
        let (loaded, unchanged, failed) = (report.loaded.len(), report.unchanged, report.failed.len());
        if !watched || loaded > 0 || !report.removed.is_empty() {
            tracing::info!(loaded, unchanged, removed = report.removed.len(), failed, "reloaded");
        }
        for failure in &report.failed {
            tracing::warn!(what = failure.what, problem = failure.problem, "not loaded");
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// The server [default: this machine, at the port of the setting listen].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

pub(super) async fn health(config: &Config, args: HealthArgs) -> Outcome {
    let own = args.url.is_none();
    let url = args.url.unwrap_or_else(|| {
        let scheme = if config.tls().is_some() { "https" } else { "http" };
        let address = config.listen_addr();
        let host = if address.is_ipv6() { "[::1]" } else { "127.0.0.1" };
        let host = if address.ip().is_unspecified() { host.to_owned() } else { host_of(address.ip()) };
        format!("{scheme}://{host}:{}", address.port())
    });
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    fetch::probe(&url, own).await.map_err(Failure::of(&url))?;
    super::print_line("ok")
}

fn host_of(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_end_is_left_when_its_time_is_over() {
        let (limit, shutdown) = (Duration::from_millis(50), CancellationToken::new());
        let ended = ended_within(limit, shutdown.clone(), std::future::pending());
        tokio::pin!(ended);
        // While the server runs it may take for ever.
        assert!(tokio::time::timeout(limit * 4, ended.as_mut()).await.is_err());
        shutdown.cancel();
        assert!(tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap().is_ok());
        // What ends by itself is not waited out, and its outcome counts.
        let failed = ended_within(Duration::MAX, shutdown, async { Err(Failure("a".to_owned())) });
        assert!(tokio::time::timeout(Duration::from_secs(20), failed).await.unwrap().is_err());
    }

    #[test]
    fn a_server_of_the_usual_settings_is_gone_before_it_is_killed() {
        let whole = Config::default().drain() + AFTER_DRAIN + super::super::LEFT_BEHIND;
        assert!(whole <= Duration::from_secs(28), "{whole:?}");
    }
}
