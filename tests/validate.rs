//! The check of operations: the CPU passes it, and a device that is wrong does not.

mod cli_support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use cli_support::{Folder, kerase_in};
use kerase::backend::*;
use kerase::cpu::Cpu;
use kerase::cuda::Cuda;
use kerase::cuda::driver::dry::Dry;
use kerase::cuda::driver::emulated::{Emulated, Kernel};
use kerase::error::{Error, Result};
use kerase::precision::Precision;
use kerase::validate::{Case, Checked, Failure, Outcome, Problem, Selection, Watcher, validate};

#[test]
fn single_precision_on_the_cpu_passes() {
    let selection = Selection { random: 50, seed: 1, ..Selection::default() };
    let outcome = validate(&Cpu::<f32>::default(), "cpu", &selection, &mut ());
    assert!(outcome.passed(), "{outcome}");
    assert!(outcome.runs[0].unsupported.is_empty());
    // A tolerance that nothing comes near to finds nothing: the convolutions use a part of theirs.
    let conv = outcome.operations.iter().find(|row| row.operation == "conv3x3").unwrap();
    assert!(conv.used > 0.05, "{outcome}");
}

/// What is too slow for the emulated device at the paper's sizes may still be wrong itself.
#[test]
fn layers_of_the_papers_network_pass_on_the_cpu() {
    let of = |only: &str| {
        let selection = Selection { paper: true, only: Some(only.into()), ..Selection::default() };
        validate(&Cpu::<f32>::default(), "cpu", &selection, &mut ())
    };
    for only in [
        "conv_transpose 288->144 n1 40x23",
        "conv_transpose_backward 288->144 n1 40x23",
        "conv_transpose_backward 128->64 n4 40x23",
        "avg_pool_backward 144 n1 80x46",
        "conv1x1_backward 18->2 n1 640x368",
        "unet_input n1 c1 640x368",
        "unet_output_backward n1 c1 640x368",
    ] {
        let outcome = of(only);
        assert!(outcome.passed() && outcome.runs[0].cases == 1, "{only}: {outcome}");
    }
}

#[test]
fn every_kernel_passes_on_the_emulated_device() {
    let folder = Folder::new();
    folder.kerase("validate --device emulated --out report.json").succeeded();
    let report = folder.json("report.json");
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "an order of threads each");
    for run in runs {
        assert!(
            run["cases"].as_u64().unwrap() > 550 && run["unsupported"].as_array().unwrap().is_empty(),
            "{run}"
        );
    }
    assert!(report["operations"].as_array().unwrap().iter().all(|row| row["failed"] == 0), "{report}");
}

/// Operands are rounded to 11 and 8 bits there: errors are as much larger, and no more.
#[test]
fn convolutions_on_tensor_cores_pass_on_the_emulated_device() {
    let folder = Folder::new();
    let precisions = [("tf32", 1e-4), ("bf16", 1e-3)];
    for ((precision, least), only) in precisions
        .into_iter()
        .flat_map(|precision| ["conv3x3", "conv_transpose", "announce"].map(|only| (precision, only)))
    {
        let out = format!("{precision}-{only}.json");
        folder
            .kerase(&format!("validate --device emulated --precision {precision} --only {only} --out {out}"))
            .succeeded();
        let report = folder.json(&out);
        let operations = report["operations"].as_array().unwrap();
        assert_eq!(operations.len(), 2, "{report}");
        for row in operations {
            assert!(row["failed"] == 0 && row["relative"].as_f64().unwrap() > least, "{row}");
        }
        let device = report["runs"][0]["device"].as_str().unwrap();
        assert!(device.contains(precision), "{device}");
    }
}

/// What is wrong with a device's pooling.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Element,
    LeavesOut,
    LastBit,
    Fence,
    Panics,
    Fails,
}

/// A CPU with a fault, which does not transform more than 1000 columns.
struct Faulty {
    cpu: Cpu<f32>,
    wrong: Wrong,
    pooled: Cell<usize>,
}

type Buffer = kerase::cpu::buffer::Buffer<f32>;
macro_rules! as_the_cpu {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(fn $name(&self, $($argument: $type),*) {
            self.cpu.$name($($argument),*);
        })*
    };
}

impl Memory for Faulty {
    type Buffer = Buffer;

    fn zeros(&self, purpose: Purpose, len: usize) -> Buffer {
        self.cpu.zeros(purpose, len)
    }
}

impl Backend for Faulty {
    type Real = f32;
    type Tape = ();
    type Mark = std::time::Instant;
    type Download = Vec<f32>;

    fn carry_out(&self, operation: Operation<'_, Buffer>) {
        let Operation::AvgPool(AvgPool { input, output }) = operation else {
            return self.cpu.carry_out(operation);
        };
        self.pooled.set(self.pooled.get() + 1);
        let before = output.values[0];
        self.cpu.run(AvgPool { input, output: &mut *output });
        let value = &mut output.values[0];
        match self.wrong {
            Wrong::Element => *value += 1e-5,
            Wrong::LeavesOut => *value = before,
            Wrong::LastBit => *value = f32::from_bits(value.to_bits() ^ self.pooled.get() as u32 & 1),
            Wrong::Panics => panic!("pooling is too much"),
            Wrong::Nothing | Wrong::Fence | Wrong::Fails => {}
        }
    }

    fn check(&self, shape: ImageShape) -> Result<()> {
        match shape.columns {
            ..=1000 => Ok(()),
            columns => Err(Error::input(format!("{columns} columns are too many"))),
        }
    }

    fn mark(&self) -> std::time::Instant {
        std::time::Instant::now()
    }

    fn seconds(&self, from: &std::time::Instant, to: &std::time::Instant) -> f64 {
        (*to - *from).as_secs_f64()
    }

    fn keeps(&self, rooms: usize) -> bool {
        self.cpu.keeps(rooms)
    }

    fn len(&self, buffer: &Buffer) -> usize {
        buffer.len()
    }

    fn prepare(&self, _: impl FnOnce()) -> Result<()> {
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        match self.wrong {
            Wrong::Fails => Err(Error::Device("an illegal address".into())),
            _ => Ok(()),
        }
    }

    fn repeat(&self, _tape: &mut (), body: impl FnOnce()) {
        body();
    }

    fn begin_download(&self, from: &Buffer, len: usize) -> Result<Vec<f32>> {
        self.cpu.begin_download(from, len)
    }

    fn await_download(&self, download: Vec<f32>, to: &mut [f32]) -> Result<()> {
        self.cpu.await_download(download, to)
    }

    fn in_one_block<R>(&self, _beside: usize, build: impl Fn() -> Result<R>) -> Result<R> {
        build()
    }

    as_the_cpu! {
        set_len(buffer: &mut Buffer, len: usize);
        upload(from: &[f32], to: &mut Buffer);
        upload_after(mark: &std::time::Instant, from: &[f32], to: &mut Buffer);
        download(from: &Buffer, to: &mut [f32]);
        begin_sum(buffer: &mut Buffer, part: Span);
        await_sums();
    }

    fn beside(&self, body: impl FnOnce()) {
        body();
    }

    fn works_beside(&self) -> bool {
        false
    }

    fn is_connected(&self) -> bool {
        false
    }

    fn memory_in_use(&self) -> Option<usize> {
        None
    }
}

impl Checked for Faulty {
    fn fenced(&self, len: usize) -> Buffer {
        vec![0.0; len].into()
    }

    fn fences_intact(&self, _buffer: &Buffer) -> bool {
        self.wrong != Wrong::Fence
    }

    fn dirty_scratch(&self, _value: f32) {}

    fn precision(&self) -> Precision {
        Precision::Tf32
    }
}

fn outcome(wrong: Wrong, only: &str) -> Outcome {
    outcome_of(wrong, &Selection { only: Some(only.into()), ..Selection::default() }, &mut ())
}

fn outcome_of(wrong: Wrong, selection: &Selection, watcher: &mut impl Watcher) -> Outcome {
    let device = Faulty { cpu: Cpu::default(), wrong, pooled: Cell::new(0) };
    validate(&device, "faulty (pooling), tf32", selection, watcher)
}

const CASE: &str = "avg_pool 3 n2 7x9 raw";

fn problem(wrong: Wrong) -> Problem {
    let outcome = outcome(wrong, CASE);
    assert!(!outcome.passed());
    assert_eq!((outcome.runs[0].cases, outcome.runs[0].failed), (1, 1));
    assert_eq!(outcome.failures[0].case, CASE);
    // Whoever reads the report sees where, and how to see it again.
    let text = outcome.to_string();
    assert!(
        text.contains(&format!("again: kerase validate --device faulty --precision tf32 --only '{CASE}'\n"))
            && text.contains("1 failed"),
        "{text}"
    );
    outcome.failures[0].problem.clone()
}

#[test]
fn a_failure_is_seen_again_with_all_that_it_came_from() {
    let selection = Selection {
        paper: true,
        random: 400,
        seed: 7,
        only: Some("avg_pool".into()),
        variables: vec!["KERASE_EMULATED_SCHEDULE=reverse".into()],
    };
    let outcome = outcome_of(Wrong::Element, &selection, &mut ());
    let table = Selection { only: selection.only.clone(), ..Selection::default() };
    let table: BTreeSet<String> = table.cases().iter().map(ToString::to_string).collect();
    // One of the paper's network or at random, that is.
    let failure = outcome.failures.iter().rev().find(|failure| !table.contains(&failure.case)).unwrap();
    let named = "KERASE_EMULATED_SCHEDULE=reverse kerase validate --device faulty --precision tf32 --paper --random 400 \
                 --seed 7 --only 'avg_pool ";
    assert!(failure.again.starts_with(named), "{failure}");
    assert!(failure.to_string().ends_with(&format!("\n  again: {}", failure.again)), "{failure}");
    // Where a device is right, the line runs that case and passes.
    let line = failure.again.replace("kerase", "\"$KERASE\"").replace("--device faulty", "--device emulated");
    let said = Folder::new().shell(&line).succeeded();
    assert!(said.contains("emulated in tf32") && said.contains("seed 7"), "{said}");
    assert!(said.contains("emulated (reverse), tf32: 1 cases run, all agree"), "{said}");
}

/// Keeps what fails, and then has enough.
#[derive(Default)]
struct First(Vec<Failure>);

impl Watcher for First {
    fn next(&mut self, _: &Case) -> bool {
        self.0.is_empty()
    }

    fn failed(&mut self, failure: &Failure) {
        self.0.push(failure.clone());
    }
}

#[test]
fn a_failure_is_told_at_once_and_what_is_stopped_is_incomplete() {
    let selection = Selection { only: Some("avg_pool".into()), ..Selection::default() };
    let mut first = First::default();
    let outcome = outcome_of(Wrong::Element, &selection, &mut first);
    assert_eq!((outcome.runs[0].cases, &outcome.failures), (1, &first.0));
    assert!(outcome.incomplete && outcome.to_string().contains("INCOMPLETE"), "{outcome}");

    let stopped = outcome_of(Wrong::Nothing, &selection, &mut First(first.0));
    assert!(stopped.runs.is_empty() && stopped.failures.is_empty() && !stopped.passed());
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_leaves_what_was_found_so_far() {
    let folder = Folder::new();
    let mut command = kerase_in(&folder, "validate --device emulated --random 100000 --out report.json");
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let catches_interrupt = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 0b10 != 0
    };
    while !catches_interrupt() {
        sleep(Duration::from_millis(20));
    }
    sleep(Duration::from_millis(500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert!(String::from_utf8(ended.stdout).unwrap().contains("INCOMPLETE"));
    assert_eq!(folder.json("report.json")["incomplete"], true);
}

#[test]
fn a_wrong_element_is_named_with_both_values() {
    assert!(outcome(Wrong::Nothing, CASE).passed());
    let Problem::Element { label, index, len, got, reference, allowed } = problem(Wrong::Element) else {
        panic!("another problem")
    };
    assert_eq!((label.as_str(), index, len), ("output", 0, 2 * 3 * 3 * 4));
    assert!((got - reference - 1e-5).abs() < 1e-6 && allowed < 2e-6, "{got} {reference} {allowed}");
}

#[test]
fn what_is_left_out_is_seen() {
    let problem = problem(Wrong::LeavesOut);
    assert!(matches!(problem, Problem::Element { index: 0, got, .. } if got.is_nan()), "{problem}");
    let json = serde_json::to_string(&problem).unwrap();
    assert!(json.contains(r#""kind":"element""#) && json.contains(r#""got":"nan""#), "{json}");
}

#[test]
fn other_bits_the_second_time_are_seen() {
    let problem = problem(Wrong::LastBit);
    assert!(
        matches!(problem, Problem::Repeat { index: 0, first, second, .. } if first != second),
        "{problem}"
    );
}

#[test]
fn a_write_outside_of_a_buffer_is_seen() {
    assert!(matches!(problem(Wrong::Fence), Problem::Fence { .. }));
}

#[test]
fn fences_of_a_device_are_where_its_buffers_end() {
    let device = Cuda::new(Emulated::default());
    let mut buffer = Checked::fenced(&device, 8);
    device.upload(&[1.0; 8], &mut buffer);
    assert!(Checked::fences_intact(&device, &buffer));
    // Its last real now lies where the fence should begin.
    device.set_len(&mut buffer, 7);
    assert!(!Checked::fences_intact(&device, &buffer));
    device.finish().unwrap();
}

#[test]
fn a_device_that_gives_up_has_failed() {
    let messages = [Wrong::Panics, Wrong::Fails].map(|wrong| problem(wrong).to_string());
    assert!(messages[0].contains("pooling is too much"), "{}", messages[0]);
    assert!(messages[1].contains("an illegal address"), "{}", messages[1]);
}

#[test]
fn what_did_not_run_is_no_pass() {
    let outcome = outcome(Wrong::Nothing, "rss_output n1 c3 2x1021");
    assert_eq!((outcome.runs[0].cases, outcome.runs[0].unsupported.len()), (0, 1));
    assert!(!outcome.passed());
    assert!(outcome.to_string().contains("1021 columns are too many"), "{outcome}");
    assert!(!Outcome::default().passed());
}

#[test]
fn outcomes_of_several_runs_are_one() {
    let mut all = outcome(Wrong::Nothing, CASE);
    all.merge(outcome(Wrong::Element, "avg_pool"));
    assert_eq!((all.runs.len(), all.runs[0].failed), (2, 0));
    let pool = all.operations.iter().find(|row| row.operation == "avg_pool").unwrap();
    assert_eq!((pool.cases, pool.failed), (19, 18));
    assert!(pool.used > 1.0 && !all.passed());
}

#[test]
fn the_command_says_what_ran() {
    let folder = Folder::new();
    let text = folder.kerase("validate --only avg_pool --device cpu --out report.json").succeeded();
    assert!(text.contains("cpu: 36 cases run, all agree"), "{text}");
    let report = folder.json("report.json");
    assert_eq!((&report["runs"][0]["cases"], &report["incomplete"]), (&36.into(), &false.into()));
    let by = &report["by"];
    assert_eq!((&by["device"], &by["precision"]), (&"cpu".into(), &"fp32".into()));
    assert_eq!(by["kerase"], env!("CARGO_PKG_VERSION"));
    // Three roundings of 2⁻²⁴, times four for a single element.
    assert_eq!(report["operations"][0]["tolerance"], 12.0 / f64::from(1 << 24));

    let text = folder.kerase("validate --only avg_pool --device emulated --random 10").succeeded();
    assert!(text.contains("emulated (") && !text.contains("failed\n"), "{text}");

    let names = folder.kerase("validate --only conv1x1 --random 50 --seed 3 --list").succeeded();
    assert!(names.lines().count() > 10 && names.lines().all(|name| name.starts_with("conv1x1")), "{names}");
    folder.kerase("validate --only nothing").failed(2, &["'nothing'", "--list"]);
    folder.kerase("validate --only 640x368").failed(2, &["'640x368'", "give --paper"]);
    for option in ["--json", "--out cases.json"] {
        folder.kerase(&format!("validate --list {option}")).failed(2, &["cannot be used with"]);
    }
}

/// What these cases do not launch.
fn idle(selected: impl Fn(Precision) -> Vec<Selection>) -> Vec<&'static str> {
    let launched: BTreeSet<&str> = Precision::ALL
        .into_iter()
        .flat_map(|precision| {
            let device = Cuda::new(Dry::default()).with_precision(precision);
            for selection in selected(precision) {
                // Nothing is computed: results are wrong, launches are right.
                validate(&device, "dry", &selection, &mut ());
            }
            device.driver().launches().into_keys()
        })
        .collect();
    Kernel::all().map(Kernel::name).filter(|name| !launched.contains(name)).collect()
}

/// What no case launches is checked by none.
#[test]
fn the_table_launches_every_kernel() {
    let idle = idle(|_| vec![Selection::default()]);
    assert!(idle.is_empty(), "no case launches {idle:?}");
}

/// Under sanitizers the whole table runs in float32, and what scripts/sanitize.sh names in the other precisions.
#[test]
fn sanitizers_see_every_kernel() {
    let script =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/sanitize.sh")).unwrap();
    let named = |precision: Precision| {
        let list =
            script.lines().find_map(|line| line.strip_prefix(&format!("{precision}=("))?.strip_suffix(')'));
        list.unwrap_or_else(|| panic!("sanitize.sh names operations in {precision}"))
    };
    let idle = idle(|precision| match precision {
        Precision::Fp32 => vec![Selection::default()],
        _ => {
            let only = named(precision).split_whitespace().map(|only| Some(only.to_string()));
            only.map(|only| Selection { only, ..Selection::default() }).collect()
        }
    });
    assert!(idle.is_empty(), "scripts/sanitize.sh does not run {idle:?}");
}

/// A whole network's step, where a device repeats what it recorded.
#[test]
fn a_whole_step_is_as_float64_has_it() {
    let folder = Folder::new();
    let network =
        "--cascades 2 --chans 4 --pools 2 --sens-chans 2 --sens-pools 2 --coils 3 --height 64 --width 48";
    let devices = [
        ("cpu", &["fp32"][..]),
        ("emulated", &["fp32", "tf32", "bf16"]),
        ("emulated --precision tf32", &["tf32"]),
    ];
    for (device, precisions) in devices {
        let said = folder.kerase(&format!("validate --step --json --device {device} {network}")).succeeded();
        let outcomes: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
        let of = outcomes.iter().map(|outcome| outcome["precision"].as_str().unwrap());
        assert_eq!(of.collect::<Vec<_>>(), precisions, "without --precision, all that the device has");
        for outcome in outcomes {
            let apart = outcome["gradient_apart"].as_f64().unwrap();
            println!("{device}: {apart:.1e} of the gradient apart");
            assert!(apart > 0.0 && outcome["passed"] == true, "{outcome}");
            assert_eq!((&outcome["cascades"], &outcome["width"]), (&2.into(), &48.into()), "{outcome}");
            assert_eq!(outcome["by"]["precision"], outcome["precision"]);
        }
    }
    folder.kerase("validate --step --only conv").failed(2, &["cannot be used with"]);
    folder.kerase("validate --chans 4").failed(2, &["of --step"]);
}
