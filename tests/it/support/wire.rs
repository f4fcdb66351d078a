//! Requests that no client library would send.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use actix_web::web;
use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::RootCertStore;
use rustls::StreamOwned;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::Service;
use super::said;
use super::service::Answer;

/// Sends bytes as they are over TLS, and answers with what came back.
pub async fn raw(service: &Service, request: Vec<u8>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(service.authority_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let address = service.base.strip_prefix("https://").unwrap().to_owned();
    said::tokens_in(&String::from_utf8_lossy(&request));
    let exchange = move || {
        let connection = ClientConnection::new(config, "127.0.0.1".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(address).unwrap());
        // The server may answer and close before it has read everything.
        drop(stream.write_all(&request).and_then(|()| stream.flush()));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer: String = web::block(exchange).await.unwrap();
    match answer.split(' ').nth(1) {
        Some(status) if status.starts_with(['4', '5']) => said::keep(said::Channel::Answer, &answer),
        _ => said::tokens_in(&answer),
    }
    answer
}

/// Posts to exactly that target, with these further lines in the head, and answers with status and body.
pub async fn post(service: &Service, target: &str, head: &[String], body: &str) -> Answer {
    let host = service.base.strip_prefix("https://").unwrap();
    let own =
        if head.iter().any(|line| line.starts_with("Host:")) { String::new() } else { format!("Host: {host}\r\n") };
    let lines: String = head.iter().flat_map(|line| [line.as_str(), "\r\n"]).collect();
    let length = body.len();
    let request =
        format!("POST {target} HTTP/1.1\r\n{own}{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let answer = raw(service, request.into_bytes()).await;
    let (head, text) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = serde_json::from_str(text).unwrap_or(Value::Null);
    Answer { status, headers: reqwest::header::HeaderMap::new(), body, text: text.to_owned() }
}
