//! The demonstration's own world: an identity provider, a registry, a certificate authority and a wheel, all real and
//! all on loopback.
//!
//! Nothing here decides anything about a token: the service under demonstration does, and it sees these parts only
//! over the network. Tests use the same parts. INVARIANT: `serve` cannot reach this module; its keys and its registry
//! exist only where the demonstration or a test starts them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use actix_web::dev::ServerHandle;
use actix_web::rt::System;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer};
use rustls::ServerConfig;

pub mod certificate;
pub mod client;
pub mod directory;
pub mod multipart;
pub mod narrative;
pub mod provider;
pub mod registry;
pub mod signing;
pub mod wheel;
pub mod world;

/// A free port of 127.0.0.1, taken at once: whoever must know an address before its server starts binds first.
pub fn bind() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
}

/// A server on a thread and a runtime of its own, so that it serves callers of any runtime, or of none. It stops, and
/// its port closes, when this is dropped.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Serves the routes on a bound listener: https if there is a TLS configuration, else http.
    pub fn start<F>(listener: TcpListener, tls: Option<ServerConfig>, routes: F) -> io::Result<Self>
    where
        F: Fn(&mut ServiceConfig) + Clone + Send + 'static,
    {
        let address = listener.local_addr()?;
        let server = HttpServer::new(move || App::new().configure(routes.clone())).workers(1).disable_signals();
        let server = match tls {
            Some(tls) => server.listen_rustls_0_23(listener, tls)?,
            None => server.listen(listener)?,
        };
        let server = server.run();
        let handle = server.handle();
        let thread = thread::Builder::new().name("loopback".into()).spawn(move || {
            // A server that fails closes its port, and that is how its callers learn of it.
            drop(System::new().block_on(server));
        })?;
        Ok(Self { address, handle, thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The command is sent by the call itself; the future would only wait for what the join below waits for.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
