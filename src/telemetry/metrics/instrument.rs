//! How instruments are made: each is described as it is made, so the list of all is that of what `/metrics` can show.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::Value;
use opentelemetry::metrics::Counter;
use opentelemetry::metrics::Histogram;
use opentelemetry::metrics::Meter;

use crate::escape::is_deceptive;

/// What every name in `/metrics` begins with.
pub(super) const NAMESPACE: &str = "trustmint";
/// The longest label; ids in the configuration are shorter.
pub(super) const LONGEST_LABEL: usize = 128;

/// A metric, as `/metrics` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name, without the endings of a histogram's series.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: Vec<&'static str>,
    /// What it says, in one sentence.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It grows, and begins anew with the process.
    Counter,
    /// It is what it is at the moment.
    Gauge,
    /// Counts of observations up to each of several bounds, and their sum.
    Histogram,
}

impl Kind {
    /// Its name in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Described {
    /// In what its values are, which its name ends with; counts and plain numbers have no unit.
    pub fn unit(&self) -> Option<&'static str> {
        if self.name.ends_with("_timestamp_seconds") {
            Some("Unix time")
        } else {
            self.name.ends_with("_seconds").then_some("seconds")
        }
    }
}

/// Makes instruments and keeps the list of them.
#[derive(Debug)]
pub(super) struct Maker {
    meter: Meter,
    made: Vec<Described>,
}

/// What a gauge or a total shows at one moment: the values of its labels with a number, for each series.
pub(super) type Readings<const N: usize, T> = Vec<([Value; N], T)>;

impl Maker {
    pub(super) const fn new(meter: Meter) -> Self {
        Self { meter, made: Vec::new() }
    }

    /// All that was made.
    pub(super) fn finish(self) -> Vec<Described> {
        self.made
    }

    /// Something that is counted when it happens.
    pub(super) fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
    ) -> Count<N> {
        self.note(format!("{NAMESPACE}_{name}_total"), Kind::Counter, labels, help);
        Count { counter: self.meter.u64_counter(name).with_description(help).build(), labels }
    }

    /// Something that takes time, in buckets with these upper bounds in seconds.
    pub(super) fn seconds<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        bounds: &[f64],
        help: &'static str,
    ) -> Seconds<N> {
        self.note(format!("{NAMESPACE}_{name}_seconds"), Kind::Histogram, labels, help);
        let histogram = self.meter.f64_histogram(name).with_description(help).with_unit("s");
        Seconds { histogram: histogram.with_boundaries(bounds.to_vec()).build(), labels }
    }

    /// Something that is read at each rendering.
    pub(super) fn gauge<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
        read: impl Fn() -> Readings<N, i64> + Send + Sync + 'static,
    ) {
        self.note(format!("{NAMESPACE}_{name}"), Kind::Gauge, labels, help);
        let gauge = self.meter.i64_observable_gauge(name).with_description(help);
        let gauge = gauge.with_callback(move |observer| {
            for (values, value) in read() {
                observer.observe(value, &attributes(labels, values));
            }
        });
        let _observed = gauge.build();
    }

    /// Something that others count, read at each rendering.
    pub(super) fn total<const N: usize>(
        &mut self,
        name: &'static str,
        labels: [&'static str; N],
        help: &'static str,
        read: impl Fn() -> Readings<N, u64> + Send + Sync + 'static,
    ) {
        self.note(format!("{NAMESPACE}_{name}_total"), Kind::Counter, labels, help);
        let counter = self.meter.u64_observable_counter(name).with_description(help);
        let counter = counter.with_callback(move |observer| {
            for (values, value) in read() {
                observer.observe(value, &attributes(labels, values));
            }
        });
        let _observed = counter.build();
    }

    fn note<const N: usize>(&mut self, name: String, kind: Kind, labels: [&'static str; N], help: &'static str) {
        self.made.push(Described { name, kind, labels: labels.to_vec(), help });
    }
}

/// A counter with its labels.
#[derive(Debug)]
pub(super) struct Count<const N: usize> {
    counter: Counter<u64>,
    labels: [&'static str; N],
}

impl<const N: usize> Count<N> {
    /// Counts one.
    pub(super) fn one(&self, values: [Value; N]) {
        self.counter.add(1, &attributes(self.labels, values));
    }
}

/// A histogram of times with its labels.
#[derive(Debug)]
pub(super) struct Seconds<const N: usize> {
    histogram: Histogram<f64>,
    labels: [&'static str; N],
}

impl<const N: usize> Seconds<N> {
    /// Takes one observation in.
    pub(super) fn record(&self, values: [Value; N], time: Duration) {
        self.histogram.record(time.as_secs_f64(), &attributes(self.labels, values));
    }
}

/// An array, since a request counts several times.
fn attributes<const N: usize>(labels: [&'static str; N], values: [Value; N]) -> [KeyValue; N] {
    let mut labels = labels.into_iter();
    values.map(|value| KeyValue::new(labels.next().unwrap_or_default(), value))
}

/// A label's value from the configuration.
///
/// SECURITY: a value that no configuration has shows as one constant, so that a caller's mistake costs one series and
/// not one a request. (Quotes and backslashes are escaped by the encoder.)
pub(super) fn configured(value: &str) -> Value {
    if value.len() <= LONGEST_LABEL && !value.contains(is_deceptive) {
        value.to_owned().into()
    } else {
        "invalid".into()
    }
}

/// What a gauge without labels shows: nothing, or one number.
pub(super) fn plain<T>(value: Option<T>) -> Readings<0, T> {
    value.into_iter().map(|value| ([], value)).collect()
}

/// Something that whoever changes it tells, and that is read at each rendering.
#[derive(Debug, Default)]
pub(super) struct Told<T>(Arc<Mutex<T>>);

impl<T> Told<T> {
    /// Looks at it, or changes it.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, value: T) {
        self.with(|held| *held = value);
    }
}

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Something that is asked for at each rendering, once it is known whom to ask.
pub(super) struct Asked<T>(Arc<OnceLock<Box<dyn Fn() -> T + Send + Sync>>>);

impl<T: Default> Asked<T> {
    /// From now on this is asked. Of two, the first.
    pub(super) fn of(&self, answer: impl Fn() -> T + Send + Sync + 'static) {
        let _first = self.0.set(Box::new(answer));
    }

    pub(super) fn read(&self) -> T {
        self.0.get().map_or_else(T::default, |answer| answer())
    }
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Asked<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Asked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked").field(&self.0.get().is_some()).finish()
    }
}
