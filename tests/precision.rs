//! Training in each precision of tensor cores goes where float64 goes, and ends no further from it than two seeds end
//! from each other. `scripts/precision_curves.py` is the same at length.

#[path = "cli_support/mod.rs"]
mod support;

#[path = "run_support/mod.rs"]
mod run_support;

use std::sync::atomic::AtomicBool;

use kerase::cpu::Cpu;
use kerase::run::{RunDirectory, Session, Start};
use kerase::train::Training;
use run_support::{SAMPLING, Sets};
use support::Folder;

/// Two epochs of six slices.
const OPTIONS: &str = "--data brain --validation test --cascades 1 --chans 8 --pools 1 --sens-chans 2 --sens-pools 1 \
                       --max-steps 12";

/// How far a training may be from float64's: the loss of the first step and, relatively, its gradient's norm, which show
/// the rounding of one pass; the loss of any step, which shows what becomes of it. Three times what was measured; more for
/// fp32, where compilers may round differently.
const MOST: [(&str, [f64; 3]); 3] =
    [("fp32", [1e-7, 1e-6, 1e-6]), ("tf32", [1.2e-4, 1.1e-2, 6e-3]), ("bf16", [7e-4, 2.6e-2, 1.2e-2])];

/// What a training logged.
struct Curve {
    loss: Vec<f64>,
    grad_norm: Vec<f64>,
    /// The last validation's.
    psnr: f64,
}

impl Curve {
    fn read(folder: &Folder, run: &str) -> Self {
        let steps = folder.lines(run, "step");
        let numbers = |name: &str| steps.iter().map(|line| line[name].as_f64().unwrap()).collect();
        let psnr = folder.lines(run, "validation").last().unwrap()["psnr"].as_f64().unwrap();
        Self { loss: numbers("loss"), grad_norm: numbers("grad_norm"), psnr }
    }

    fn train(folder: &Folder, run: &str, options: &str) -> Self {
        folder.kerase(&format!("train {OPTIONS} {SAMPLING} --out {run} {options}")).succeeded();
        Self::read(folder, run)
    }

    /// What a run trained, in float64.
    fn exactly(folder: &Folder, run: &str) -> Self {
        let mut config: kerase::train::TrainConfig =
            RunDirectory::check(&folder.path(run), Start::Resume).unwrap().settings("train").unwrap();
        config.data = vec![folder.path("brain")];
        config.validation = vec![folder.path("test")];
        let (out, stop) = (folder.path("fp64"), AtomicBool::new(false));
        let training = Training { config, session: Session::alone(&out, Start::New, &stop) };
        rayon::scope(|_| training.run(&Cpu::<f64>::default())).unwrap();
        Self::read(folder, "fp64")
    }

    /// The mean loss of the last epoch: of every slice.
    fn end(&self) -> f64 {
        self.loss[6..].iter().sum::<f64>() / 6.0
    }

    /// As [`MOST`] has it.
    fn apart(&self, truth: &Self) -> [f64; 3] {
        let loss: Vec<f64> = self.loss.iter().zip(&truth.loss).map(|(a, b)| (a - b).abs()).collect();
        let norm = (self.grad_norm[0] / truth.grad_norm[0] - 1.0).abs();
        [loss[0], norm, loss.into_iter().fold(0.0, f64::max)]
    }
}

/// The largest difference of two of them. Two ends of a training as chaotic as this one differ by more than their
/// standard deviation every second time.
fn range(values: &[f64]) -> f64 {
    let most = |better: fn(f64, f64) -> f64| values.iter().copied().reduce(better).expect("there are seeds");
    most(f64::max) - most(f64::min)
}

#[test]
fn every_precision_trains_as_float64_does() {
    let folder = Folder::new();
    folder.sets();
    let seeds: Vec<Curve> = (1..=5)
        .map(|seed| Curve::train(&folder, &format!("seed-{seed}"), &format!("--device cpu --seed {seed}")))
        .collect();
    let truth = Curve::exactly(&folder, "seed-1");
    let spread = |of: fn(&Curve) -> f64| range(&seeds.iter().map(of).collect::<Vec<_>>());
    let (of_loss, of_psnr) = (spread(Curve::end), spread(|curve| curve.psnr));
    for (precision, most) in MOST {
        let options = format!("--device emulated --precision {precision} --seed 1");
        let curve = Curve::train(&folder, precision, &options);
        let apart = curve.apart(&truth);
        let shown = apart.map(|x| format!("{x:.1e}")).join(", ");
        let (loss, psnr) = ((curve.end() - truth.end()).abs(), (curve.psnr - truth.psnr).abs());
        println!(
            "{precision}: {shown} apart; ends {loss:.1e} of {of_loss:.1e}, {psnr:.1e} dB of {of_psnr:.1e}"
        );
        let within = apart.iter().zip(most).all(|(apart, most)| *apart <= most);
        assert!(within, "{precision}: {shown} from float64, at most {most:?}");
        assert!(loss < of_loss, "{precision}: the end is {loss:.1e} from float64's, seeds {of_loss:.1e}");
        assert!(psnr < of_psnr, "{precision}: {psnr:.1e} dB from float64's, seeds {of_psnr:.1e}");
    }
    // What these bounds find: steps that are twice as long.
    let longer = Curve::train(&folder, "longer", "--device cpu --seed 1 --lr 2e-3").apart(&truth);
    let shown = longer.map(|x| format!("{x:.1e}")).join(", ");
    println!("longer steps: {shown} apart");
    assert!(longer[2] > MOST[2].1[2], "{shown} from float64 with longer steps: the bounds find nothing");
}
