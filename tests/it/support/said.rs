//! What services under test say, and which secrets the tests gave them, kept in the folder that `TRUSTMINT_TEST_SAID` names:
//! `tests/run secrets` searches the one for the other when all tests have run. Without the variable nothing is kept.
//!
//! A file is named as the test in which it was said, or as the thread. Secrets are kept by what they end in: whoever shows
//! all of a token shows its signature.

use std::fmt::Write as _;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::ops::Deref;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::HeaderMap;
use tempfile::TempDir;
use trustmint::app::App;
use trustmint::secret::hex;
use trustmint::telemetry::logs;
use trustmint::telemetry::logs::LogFormat;

/// Where a service says something.
#[derive(Debug, Clone, Copy)]
pub enum Channel {
    /// Its audit log.
    Audit,
    /// Its own log.
    Log,
    /// What verbs print that are not `serve`.
    Verb,
    /// `/metrics`.
    Metrics,
    /// What collectors are sent: traces, metrics, logs, audit events.
    Otlp,
    /// Answers that say that something failed.
    Answer,
}

impl Channel {
    const fn folder(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Log => "log",
            Self::Verb => "verb",
            Self::Metrics => "metrics",
            Self::Otlp => "otlp",
            Self::Answer => "answer",
        }
    }
}

/// What may be said nowhere.
#[derive(Debug, Clone, Copy)]
pub enum SecretKind {
    IdToken,
    UploadToken,
    MasterKey,
    ApiKey,
    Password,
    PrivateKey,
}

impl SecretKind {
    const fn file(self) -> &'static str {
        match self {
            Self::IdToken => "id-token",
            Self::UploadToken => "upload-token",
            Self::MasterKey => "master-key",
            Self::ApiKey => "api-key",
            Self::Password => "password",
            Self::PrivateKey => "private-key",
        }
    }
}

/// Base64 of so many characters at a token's end lies within its signature.
const TAIL: usize = 40;

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says where it is kept")]
static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os("TRUSTMINT_TEST_SAID").map(PathBuf::from));

/// One file of what is said. It can be given to another thread, and is still the test's.
#[derive(Debug, Clone)]
pub struct Record(Option<PathBuf>);

impl Record {
    /// The present test's of that channel.
    pub fn of(channel: Channel) -> Self {
        let thread = std::thread::current();
        let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '.' };
        let name: String = thread.name().unwrap_or("unnamed").replace("::", ".").chars().map(plain).collect();
        Self(FOLDER.as_ref().map(|folder| folder.join("said").join(channel.folder()).join(name)))
    }

    pub fn keep(&self, bytes: &[u8]) {
        if let Some(path) = &self.0
            && !bytes.is_empty()
        {
            append(path, bytes);
        }
    }
}

impl Write for Record {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what was said just now.
pub fn keep(channel: Channel, bytes: impl AsRef<[u8]>) {
    Record::of(channel).keep(bytes.as_ref());
}

/// In one call to the system, so that others' lines stay whole.
fn append(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn note(kind: SecretKind, line: &str) {
    if let Some(folder) = FOLDER.as_ref() {
        append(&folder.join("secrets").join(kind.file()), format!("{line}\n").as_bytes());
    }
}

/// A secret that is a word.
pub fn secret(kind: SecretKind, word: &str) {
    note(kind, &format!("text {word}"));
}

/// A secret that is bytes.
pub fn secret_bytes(kind: SecretKind, bytes: &[u8]) {
    note(kind, &format!("bytes {}", hex(bytes)));
}

/// Notes each token in a text that comes from a client or goes to it.
pub fn tokens_in(text: &str) {
    if FOLDER.is_none() {
        return;
    }
    for run in text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter)) {
        if let Some(signature) = signature_of_jwt(run) {
            secret(SecretKind::IdToken, signature);
        } else if let Some(signature) = signature_of_macaroon(run) {
            secret(SecretKind::UploadToken, &run[run.len() - TAIL..]);
            secret_bytes(SecretKind::UploadToken, &signature);
        }
    }
}

fn signature_of_jwt(run: &str) -> Option<&str> {
    let [header, payload, signature] = run.split('.').collect::<Vec<_>>().try_into().ok()?;
    (header.starts_with("eyJ") && !payload.is_empty() && signature.len() >= TAIL).then_some(signature)
}

/// A macaroon in the V2 format ends in the field 6, which has 32 bytes. It begins where its prefix ends.
fn signature_of_macaroon(run: &str) -> Option<[u8; 32]> {
    run.match_indices("AgE").find_map(|(at, _)| {
        let bytes = URL_SAFE_NO_PAD.decode(&run[at..]).ok()?;
        let (rest, signature) = bytes.split_last_chunk::<32>()?;
        rest.ends_with(&[6, 32]).then_some(*signature)
    })
}

/// An answer: the tokens in one that grants something, the whole of one that does not.
pub fn answered(status: u16, headers: &HeaderMap, text: &str) {
    if status < 400 {
        tokens_in(text);
    } else if FOLDER.is_some() {
        let mut said = format!("{status}\n");
        for (name, value) in headers {
            writeln!(said, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
        }
        keep(Channel::Answer, said + "\n" + text + "\n");
    }
}

/// Has the service's own log kept, of what runs in this process. What others' code says of the tests' own client is not in it.
pub fn log() {
    static STARTED: LazyLock<()> = LazyLock::new(|| {
        if FOLDER.is_some() {
            let log = logs::subscriber(LogFormat::Json, "error,trustmint=trace", || Record::of(Channel::Log)).unwrap();
            tracing::subscriber::set_global_default(log).unwrap();
        }
    });
    LazyLock::force(&STARTED);
}

/// Keeps the metrics of a service when it is given up.
pub struct LastMetrics(pub Arc<App>);

impl Drop for LastMetrics {
    fn drop(&mut self) {
        if FOLDER.is_some() {
            keep(Channel::Metrics, self.0.metrics().render().unwrap());
        }
    }
}

/// Keeps `/metrics` of a process, if it still answers. `operations` is the URL of its listener for operators.
pub fn metrics_at(operations: &str) {
    let ask = || -> io::Result<Vec<u8>> {
        let address = operations.trim_start_matches("http://");
        let patience = Some(Duration::from_millis(300));
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        stream
            .write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    };
    if FOLDER.is_some() {
        keep(Channel::Metrics, ask().unwrap_or_default());
    }
}

/// Runs one of our verbs to its end, and keeps what it says.
pub fn run(command: &mut Command) -> io::Result<Output> {
    let output = command.output()?;
    printed(command, &output);
    Ok(output)
}

/// Keeps what a verb said. What some print for their user is a secret.
pub fn printed(command: &Command, output: &Output) {
    let prints_one = command.get_args().any(|word| word == "attenuate" || word == "export");
    if prints_one {
        tokens_in(&String::from_utf8_lossy(&output.stdout));
    } else {
        keep(Channel::Verb, &output.stdout);
    }
    keep(Channel::Verb, &output.stderr);
}

/// An output of a process, of which everything that is read is kept, and the rest when this is dropped: after the process
/// has ended, or that waits for it.
pub struct Heard<R: Read> {
    output: R,
    record: Record,
}

impl<R: Read> Heard<R> {
    pub fn new(channel: Channel, output: R) -> Self {
        Self { output, record: Record::of(channel) }
    }
}

impl<R: Read> Read for Heard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.output.read(buffer)?;
        self.record.keep(&buffer[..read]);
        Ok(read)
    }
}

impl<R: Read> Drop for Heard<R> {
    fn drop(&mut self) {
        if self.record.0.is_some() {
            drop(io::copy(&mut self.output, &mut self.record));
        }
    }
}

/// The folder of a service. When it is given up, its audit log is kept, and its keys are noted.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }
}

impl Deref for Folder {
    type Target = TempDir;

    fn deref(&self) -> &TempDir {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if FOLDER.is_some() {
            look_below(self.0.path());
        }
    }
}

/// Names of files and folders say what may be in them.
fn look_below(folder: &Path) {
    let in_keys = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("keys"));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if kind.is_dir() {
            look_below(&path);
        } else if !kind.is_file() {
        } else if extension == "jsonl" {
            keep(Channel::Audit, fs::read(&path).unwrap_or_default());
        } else if in_keys || ["pem", "key"].contains(&extension) {
            keys_in(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

/// A master key's file, or PEM.
fn keys_in(text: &str) {
    if let Some(key) = text.lines().find_map(|line| line.strip_prefix("key: "))
        && let Ok(bytes) = URL_SAFE_NO_PAD.decode(key)
    {
        secret_bytes(SecretKind::MasterKey, &bytes);
    }
    if text.contains("PRIVATE KEY") {
        // Each line is a part of it. The first has what all keys of a kind begin with, and public keys have, too.
        let lines = text.lines().skip_while(|line| !line.contains("PRIVATE KEY")).skip(2);
        for line in lines.take_while(|line| !line.starts_with('-')).filter(|line| line.len() >= TAIL) {
            secret(SecretKind::PrivateKey, line);
        }
    }
}
