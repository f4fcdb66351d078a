//! The fuzz targets' corpora, replayed by an ordinary test: what a fuzzer found odd once is judged at every build.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::path::PathBuf;

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// What the repository carries at most: a corpus is for telling code paths apart, not for bulk.
const MAX_FILES: usize = 150;
const MAX_BYTES: usize = 100 * 1024;

fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str, run: fn(&[u8])) {
    let inputs: Vec<(PathBuf, Vec<u8>)> =
        corpus(target).into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    assert!((50..=MAX_FILES).contains(&inputs.len()), "{} files in fuzz/corpus/{target}", inputs.len());
    let bytes: usize = inputs.iter().map(|(_, input)| input.len()).sum();
    assert!(bytes <= MAX_BYTES, "{bytes} bytes in fuzz/corpus/{target}");
    let failed: Vec<&PathBuf> =
        inputs.iter().filter(|(_, input)| catch_unwind(|| run(input)).is_err()).map(|(file, _)| file).collect();
    assert!(failed.is_empty(), "the target {target} fails on {failed:#?}");
}

#[test]
fn the_token_corpus_is_judged_rightly() {
    replay("token", targets::token);
}

#[test]
fn the_claims_corpus_is_judged_rightly() {
    replay("claims", targets::claims);
}

#[test]
fn the_discovery_corpus_is_judged_rightly() {
    replay("discovery", targets::discovery);
}

#[test]
fn the_key_set_corpus_is_judged_rightly() {
    replay("jwks", targets::jwks);
}

#[test]
fn the_policy_corpus_is_judged_rightly() {
    replay("policy", targets::policy);
}

#[test]
fn the_bundle_corpus_is_judged_rightly() {
    replay("bundle", targets::bundle);
}

#[test]
fn the_audit_corpus_is_read_rightly() {
    replay("audit", targets::audit);
}

/// Without this the corpus might have rotted to refusals only.
#[test]
fn of_the_token_corpus_exactly_the_signed_ones_are_believed() {
    let mut believed = 0;
    for file in corpus("token") {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let is_signed = file.file_name().unwrap().to_str().unwrap().starts_with("signed-");
        assert_eq!(targets::is_proven(&text), is_signed, "{}", file.display());
        believed += usize::from(is_signed);
    }
    assert_eq!(believed, 6);
}
