//! A worker's host: the real worker but for its training thread, started again whenever it ends.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weft_worker::agent::{Surroundings, WorkerConfig, run_worker_within};

use super::coordinator::PORT;
use super::hub::Hub;
use super::stream::dial;
use super::trainer::Training;
use super::{COORDINATOR, worker_host};

/// Longer than any run.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How long a supervisor waits before it starts a process again.
const BACK_AFTER: Duration = Duration::from_millis(400);

pub(super) async fn work(hub: Hub, host: u32) -> Result<(), Box<dyn Error>> {
    loop {
        let (answers, received) = mpsc::channel(64);
        let training = Training::start(&hub, host, answers);
        let copying = hub.clone();
        let around = Surroundings {
            worker: training.worker,
            host: worker_host(host),
            dial: dial(),
            copy: Arc::new(move |wanted| Box::pin(copying.clone().copy(wanted))),
        };
        let config = WorkerConfig {
            coordinator: format!("http://{COORDINATOR}:{PORT}"),
            device: "sim".to_owned(),
            memory_bytes: 0,
            labels: BTreeMap::new(),
            cache_dir: hub.folder().join("cache"),
            listen_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            from_ip: None,
            connect_within: PATIENCE,
            coordinator_grace: PATIENCE,
            hang_after: PATIENCE,
            health: None,
            stop: CancellationToken::new(),
        };
        let exit = run_worker_within(config, around, (Box::new(training), received)).await;
        hub.say(|| format!("worker on host {host}: {exit}"));
        hub.crashed(host);
        sleep(BACK_AFTER).await;
    }
}
