//! The coordinator's host: the real coordinator, started anew on the same disk whenever the host is.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use turmoil::net::TcpListener;
use weft_coordinator::{Blocking, Coordinator, Notice};

use super::hub::Hub;
use super::stream::accepted;

/// Where it listens.
pub(super) const PORT: u16 = 7070;

pub(super) async fn serve(hub: Hub) -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let incoming = accepted(TcpListener::bind(address).await?);
    let (config, spec) = hub.coordinator(address);
    let running = Coordinator::serve(config, (address, incoming), Blocking::InPlace).await?;
    let term = hub.term();
    let (_, mut notices) = running.handle.submit(spec).await?;
    while let Some(notice) = notices.next().await {
        let over = matches!(notice, Notice::Ended(_));
        hub.notice(term, &notice);
        if over {
            break;
        }
    }
    running.shutdown("the job is over").await;
    Ok(())
}
