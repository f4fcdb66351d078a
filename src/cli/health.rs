//! `trustmint health`: whether the service that these settings start can serve requests. For what watches a container from
//! within: an image of one binary has nothing else that could ask.

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::rt::System;
use clap::Args;
use reqwest::Client;
use reqwest::redirect;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::serve::Sources;
use crate::escape::escape;

/// How long the service has to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes the settings that `serve` takes, so that the address is written once.
#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    sources: Sources,
}

impl Health {
    pub(crate) fn run(self) -> Ended {
        let address = reached(self.sources.settings()?.operations.address);
        let answer = System::new().block_on(ask(address));
        let (status, text) = answer.map_err(|error| {
            // The address is told once.
            Failed::new(format!("nothing answers at {address}: {}", error.without_url()))
        })?;
        if status != 200 {
            return Err(Failed::new(format!("the service answers {status}: {}", escape(text.trim()))));
        }
        say(&escape(text.trim()));
        Ok(true)
    }
}

/// What answers `/readyz`, as status and text.
async fn ask(address: SocketAddr) -> reqwest::Result<(u16, String)> {
    // No authorities are read: the listener speaks http.
    let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).tls_certs_only([]);
    let response = client.timeout(PATIENCE).build()?.get(format!("http://{address}/readyz")).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// Where a listener is reached from this machine: one at all addresses by loopback.
fn reached(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(if listener.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    listener
}
