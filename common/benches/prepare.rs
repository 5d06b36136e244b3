//! Prepares 100,000 generated ShareGPT conversations (110 MB, lengths spread as in FineTome) and prints speed and memory.
//!
//! `WEFT_BENCH_TOKENIZER=model.gguf cargo bench -p weft-common --bench prepare`; without it, the small tokenizer of the fixtures is used.
//! `WEFT_BENCH_ROWS` makes fewer conversations.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use weft_common::data::{self, ChatTokenizer};
use weft_common::recipe::{DatasetSection, Recipe};

const ROWS: u64 = 100_000;

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rows = std::env::var("WEFT_BENCH_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(ROWS);
    let path = folder.path().join("conversations.jsonl");
    let bytes = generate(&path, rows)?;
    println!(
        "data         {rows} conversations, {:.1} MB",
        megabytes(bytes)
    );
    let recipe = recipe(&path);
    let tokenizer = tokenizer()?;
    let cache = folder.path().join("cache");
    let first = measure(&recipe, &tokenizer, &cache)?;
    let speed = |seconds: f64| megabytes(bytes) / seconds;
    println!(
        "tokens       {} ({} supervised)",
        first.tokens, first.supervised
    );
    println!(
        "first run    {:.2} s, {:.1} MB/s",
        first.wall.as_secs_f64(),
        speed(first.wall.as_secs_f64())
    );
    println!(
        "per core     {:.2} MB/s ({:.2} s of processor time)",
        speed(first.processor),
        first.processor
    );
    let second = measure(&recipe, &tokenizer, &cache)?;
    println!(
        "second run   {:.2} s ({:.2} s of processor time)",
        second.wall.as_secs_f64(),
        second.processor
    );
    println!(
        "peak memory  {:.0} MiB, of which mapped files {:.0} MiB",
        memory("VmHWM")?,
        memory("RssFile")?
    );
    Ok(())
}

struct Measured {
    wall: Duration,
    processor: f64,
    tokens: u64,
    supervised: u64,
}

fn measure(recipe: &Recipe, tokenizer: &ChatTokenizer, cache: &Path) -> Result<Measured> {
    let (start, processor) = (Instant::now(), processor_seconds()?);
    let prepared = data::prepare(recipe, tokenizer, cache, &|_| {})?;
    Ok(Measured {
        wall: start.elapsed(),
        processor: processor_seconds()? - processor,
        tokens: prepared.report().tokens,
        supervised: prepared.report().supervised,
    })
}

fn recipe(path: &Path) -> Recipe {
    let section = DatasetSection {
        path: path.display().to_string(),
        ..DatasetSection::default()
    };
    Recipe {
        model: Default::default(),
        lora: Default::default(),
        datasets: vec![section],
        eval_datasets: Vec::new(),
        training: Default::default(),
        resources: Default::default(),
    }
}

fn tokenizer() -> Result<ChatTokenizer> {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/templates/tokenizer");
    let path = std::env::var_os("WEFT_BENCH_TOKENIZER").map_or(fixture, PathBuf::from);
    println!("tokenizer    {}", path.display());
    Ok(ChatTokenizer::load(&path, None, "chatml")?)
}

/// Writes conversations of two to eight turns and returns the file's bytes.
fn generate(path: &Path, rows: u64) -> Result<u64> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    let mut random = Random(0x5EED);
    let words: Vec<String> = (0..40_000).map(|_| word(&mut random)).collect();
    for _ in 0..rows {
        let turns = (0..random.below(4) + 1).flat_map(|_| {
            let question = speech(&mut random, &words, 40);
            let answer = speech(&mut random, &words, 105);
            [("human", question), ("gpt", answer)]
        });
        let turns: Vec<_> = turns
            .map(|(from, value)| serde_json::json!({"from": from, "value": value}))
            .collect();
        writeln!(
            out,
            "{}",
            serde_json::json!({"conversations": turns, "source": "generated"})
        )?;
    }
    out.flush()?;
    Ok(path.metadata()?.len())
}

/// Some words around `mean` in number, rarely many more, as people write them.
fn speech(random: &mut Random, words: &[String], mean: u64) -> String {
    let tail = if random.below(20) == 0 { 4 } else { 1 };
    let count = (random.below(mean) + 4) * tail * 2 / 3;
    let mut text = String::new();
    for index in 0..count {
        // The product of two uniform numbers makes low ranks frequent, as in a language.
        let rank = random.below(200) * random.below(200);
        text.push_str(&words[rank as usize]);
        text.push_str(match random.below(24) {
            0 => ", ",
            1 => ". ",
            2 => ".\n\n",
            3 => ":\n- ",
            4 => " (2024) ",
            5 => "'s ",
            _ if index + 1 == count => ".",
            _ => " ",
        });
    }
    text
}

fn word(random: &mut Random) -> String {
    const SYLLABLES: &[&str] = &[
        "a", "the", "in", "re", "con", "ti", "on", "er", "ment", "al", "ing", "pro", "so", "ly",
        "is", "é", "de", "com", "ma", "st",
    ];
    (0..=random.below(3))
        .map(|_| SYLLABLES[random.below(SYLLABLES.len() as u64) as usize])
        .collect()
}

/// A small generator with a fixed start (SplitMix64), so that every run prepares the same bytes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// User and system time of this process so far.
fn processor_seconds() -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("stat has no command")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}

/// A line of this process's memory figures, in MiB.
fn memory(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .context("no such figure")?;
    let kibibytes: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no number")?
        .parse()?;
    Ok(kibibytes / 1024.0)
}
