//! What comes from outside, bent at random: `deploy.yaml`, `local.yaml`, the artifact, requests to the world on this machine.
//! Nothing panics, hangs, or takes more than a stated amount of memory; what is refused is refused in words.
//!
//! A program of its own: the memory that is counted is its alone. Each kind's inputs follow from one seed, and a failure says
//! which input it was.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic where it stands")]

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;
use std::path::Path;

use local::account::Account;
use local::local_yaml;
use local::real::Gate;
use local::world::Request;
use shared::Manifest;
use shared::artifact::{BLOCK, Found, Zip};
use tests::SMALL;

/// How long one input may take: a thousand times what it takes as a rule, since the machine is shared.
const SLOWEST: Duration = Duration::from_secs(5);

/// The most memory that all of it may take: that of the program, and of the largest input's reading.
const MOST_MEMORY: u64 = 400 * 1024 * 1024;

/// Bytes that mean something to somebody who reads.
const TELLING: [&[u8]; 32] = [
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"&a ",
    b"*a",
    b"<<: *a",
    b"[",
    b"]",
    b"{",
    b"}",
    b": ",
    b"- ",
    b"\n",
    b"\n  ",
    b"\t",
    b"!!binary ",
    b"!!int ",
    b"? ",
    b"|\n",
    b">-\n",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"18446744073709551616",
    b"-1",
    b"1e999",
    b"\"\\u0000\"",
    b"'",
    b"#",
    b"PK\x05\x06",
    b"PK\x01\x02",
];

/// Bends a good input in a few places.
fn bend(good: &[u8], lots: &mut Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=lots.usize(0..4) {
        let at = lots.usize(0..=bytes.len());
        let end = (at + lots.usize(0..40)).min(bytes.len());
        match lots.u8(0..8) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, TELLING[lots.usize(0..TELLING.len())].iter().copied())),
            2 => drop(bytes.splice(at..end, TELLING[lots.usize(0..TELLING.len())].iter().copied())),
            3 => {
                let part = bytes[at..end].to_vec();
                let to = lots.usize(0..=bytes.len());
                bytes.splice(to..to, part);
            }
            4 => bytes.truncate(at),
            5 => {
                let part = bytes[at..end].repeat(lots.usize(1..200));
                bytes.splice(at..at, part);
            }
            6 if at < bytes.len() => bytes[at] ^= 1 << lots.u8(0..8),
            7 if at < bytes.len() => bytes[at] = lots.u8(..),
            _ => {}
        }
    }
    bytes
}

/// Tries `count` bent inputs; how many were taken. What is refused says why.
fn try_all(kind: &str, good: &[Vec<u8>], count: usize, read: impl Fn(&[u8]) -> Result<(), String>) -> usize {
    let mut lots = Rng::with_seed(11);
    let mut taken = 0;
    for n in 0..count {
        let bytes = bend(&good[n % good.len()], &mut lots);
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let shown = || String::from_utf8_lossy(&bytes).into_owned();
        match outcome {
            Ok(Ok(())) => taken += 1,
            Ok(Err(why)) => {
                assert!(why.chars().any(char::is_alphabetic), "{kind} {n}: refused without a word: {}", shown())
            }
            Err(_) => panic!("{kind} {n}: it panicked at: {}", shown()),
        }
        assert!(begun.elapsed() < SLOWEST, "{kind} {n}: it took {:?}: {}", begun.elapsed(), shown());
    }
    assert!(taken < count, "{kind}: not one was refused: nothing was bent");
    taken
}

fn text_of(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn zip(files: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Reads a file of an artifact as a function does, block by block; how many bytes it needed.
fn read_artifact(bytes: &[u8]) -> Result<(), String> {
    let mut zip = Zip::new(bytes.len() as u64);
    for _ in 0..1000 {
        match zip.file("deploy.yaml")? {
            Found::File(_) => return Ok(()),
            Found::Nothing => return Err("there is none".into()),
            Found::NotRead(block) => {
                let first = usize::try_from(block * BLOCK).unwrap();
                let last = (first + usize::try_from(BLOCK).unwrap()).min(bytes.len());
                zip.add(block, bytes.get(first..last).unwrap_or_default().to_vec());
            }
        }
    }
    panic!("it asks for blocks without end")
}

/// The largest amount of memory that this program has had, where the system tells (Linux does).
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

fn request(bytes: &[u8]) -> Request {
    // Lines: the path, then headers.
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let path = lines.next().unwrap_or_default().to_owned();
    let headers: BTreeMap<_, _> = lines.filter_map(|line| line.split_once(": ")).collect();
    let headers = headers.into_iter().map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Request { method: "POST".into(), path, headers: headers.collect(), body: b"{}".to_vec(), ..Request::default() }
}

/// All of them where every play is asked for, as in CI (see `tests::sweep`).
fn some(inputs: usize) -> usize {
    if std::env::var_os("CUTOVER_EVERY_PLAY").is_some() { inputs } else { inputs / 10 }
}

#[test]
fn a_hundred_thousand_bent_inputs_are_taken_or_refused_in_words() {
    let shop = include_str!("../examples/shop/deploy.yaml");
    let anchors = SMALL.replace("us: {", "us: &a {").replace("eu: {", "eu: {<<: *a, ");
    let manifests = [SMALL, &anchors, SMALL, SMALL, shop].map(|text| text.as_bytes().to_vec());
    let read_manifest = |bytes: &[u8]| {
        let read = Manifest::read("deploy.yaml", text_of(bytes)?);
        read.map(drop).map_err(|mistake| mistake.to_string())
    };
    // Beside the others, of which they are the half.
    let manifests = std::thread::spawn(move || try_all("deploy.yaml", &manifests, some(40_000), read_manifest));

    let account = include_str!("src/account.yaml").as_bytes().to_vec();
    let read_account = |bytes: &[u8]| Account::parse("local.yaml", text_of(bytes)?).map(drop).map_err(|why| why.0);
    let taken = try_all("local.yaml", &[account], some(10_000), read_account);
    assert!(taken > some(500), "only {taken} accounts were taken");

    let (local, shop) = (include_str!("../examples/shop/local.yaml"), Manifest::read("deploy.yaml", shop).unwrap());
    let read_local = |bytes: &[u8]| {
        let read = local_yaml::parse("local.yaml", text_of(bytes)?, Path::new("/nowhere"), &shop);
        read.map(drop).map_err(|why| why.0)
    };
    let taken = try_all("local.yaml", &[local.as_bytes().to_vec()], some(10_000), read_local);
    assert!(taken > some(500), "only {taken} files were taken");

    let files: [(&str, &[u8]); 3] =
        [("imageDetail.json", b"{}"), ("deploy.yaml", SMALL.as_bytes()), ("other", &[7; 3000])];
    // A megabyte is what is read at most; this one would be a thousand.
    let bomb = vec![b' '; 20_000_000];
    let zips = [
        zip(&files, zip::CompressionMethod::Stored),
        zip(&files, zip::CompressionMethod::Deflated),
        zip(&files[1..2], zip::CompressionMethod::Deflated),
        zip(&[("deploy.yaml", &bomb)], zip::CompressionMethod::Deflated),
    ];
    let taken = try_all("the artifact", &zips, some(20_000), read_artifact);
    assert!(taken > some(500), "only {taken} artifacts were taken");

    let gate = Gate::new().unwrap();
    let (key, _) = gate.developer();
    let signed = format!(
        "/\nhost: 127.0.0.1:4000\nx-amz-target: AmazonEC2ContainerServiceV20141113.RunTask\nauthorization: AWS4-HMAC-SHA256 \
         Credential={key}/20261123/eu-west-1/ecs/aws4_request, SignedHeaders=host, Signature=0\n"
    );
    let agent = format!("{}\nhost: localhost:4000\n", gate.below("/agent/1234/task-protection/v1/state"));
    let admit = |bytes: &[u8]| {
        let asked = request(bytes);
        let is_signed = asked.access_key().ends_with(key.trim_start_matches("local"));
        let admitted = gate.admit(asked).map_err(|refused| String::from_utf8_lossy(&refused.body).into_owned())?;
        let is_unsigned = ["/agent/", "/sink/"].iter().any(|part| admitted.path.starts_with(part));
        assert!(is_signed || is_unsigned, "{admitted:?}");
        assert!(is_signed || !admitted.headers.contains_key("x-amz-target"), "{admitted:?}");
        Ok(())
    };
    let taken_requests = try_all("a request", &[signed.into_bytes(), agent.into_bytes()], some(30_000), admit);
    assert!(taken_requests > some(500), "only {taken_requests} requests were taken");

    let taken = manifests.join().unwrap();
    assert!(taken > some(500), "only {taken} manifests were taken");

    let most = most_memory().unwrap_or_default();
    assert!(most < MOST_MEMORY, "it took {} MB", most / (1024 * 1024));
}
