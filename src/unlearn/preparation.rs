//! What a method needs before its first step: teachers, frozen weights, importances. Memory is taken first, while nothing
//! is written; what has to be found out from data comes later, in a directory of its own.

use crate::backend::{Backend, Dampening};
use crate::engine::Engine;
use crate::error::Result;
use crate::run::{Run, RunDirectory, RunState, Start};
use crate::unlearn::hyperparameters::{Hyperparameters, filled};
use crate::unlearn::mask::Mask;
use crate::unlearn::method::{Before, Method, Teacher, Trained};
use crate::unlearn::methods::ssd::Importance;
use crate::unlearn::methods::{last_cascades, salun};

/// How far a run got that is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It begins, or had not saved anything.
    Nothing,
    /// It was stopped before its first step; what was found out is in its directory.
    Prepared,
    /// Its state is that of a step, or of its end.
    Saved,
}

impl Reached {
    /// # Errors
    /// As [`RunDirectory::saved`].
    pub fn of(directory: &RunDirectory, start: Start) -> Result<Self> {
        Ok(match start {
            _ if directory.saved(start)? => Self::Saved,
            Start::Resume if directory.mask().exists() => Self::Prepared,
            _ => Self::Nothing,
        })
    }
}

pub struct Preparation<B> {
    /// What is left to do.
    task: Task<B>,
    /// Which weights the steps change, where it is not all.
    trained: Option<Vec<bool>>,
    hyperparameters: Hyperparameters,
}

enum Task<B> {
    Nothing,
    Dampen(Importance<B>),
    FindMask,
    /// A mask is there already; the seconds that it took.
    CountMask(f64),
}

impl<B> Preparation<B> {
    /// Takes the memory that the method needs beside that of training. `original`: the weights that are to forget;
    /// `hyperparameters`: with the method's defaults. With it, where something had been found out already, the origin
    /// ([`RunState::origin`]) of the run that found it out.
    ///
    /// # Errors
    /// Where the device has not enough memory, the network not so many cascades, or a mask is missing.
    pub fn new<O: Backend<Buffer = B>>(
        engine: &mut Engine<'_, O>,
        method: &Method,
        hyperparameters: Hyperparameters,
        original: &[f32],
        seed: u64,
        (directory, reached): (&RunDirectory, Reached),
    ) -> Result<(Self, Option<String>)> {
        let mut origin = None;
        for &teacher in method.teachers {
            let number = match teacher {
                Teacher::Original => engine.add_teacher(original)?,
                Teacher::Incompetent => {
                    engine.add_teacher(&engine.architecture().initial_parameters(seed))?
                }
            };
            assert_eq!(number, teacher as usize, "teachers in their order");
        }
        let mut trained = match method.trained {
            Trained::All => None,
            Trained::LastCascades => {
                Some(last_cascades::flags(engine.net(), filled(hyperparameters.last_cascades))?)
            }
        };
        let task = match (method.before, reached) {
            (Before::Nothing, _) => Task::Nothing,
            (Before::FindsSalient, Reached::Nothing) => {
                trained = Some(vec![true; original.len()]);
                Task::FindMask
            }
            // A mask that was found is that of the weights that the run began with.
            (Before::FindsSalient, Reached::Prepared | Reached::Saved) => {
                let Mask { salient, seconds, origin: of_mask } =
                    Mask::read(&directory.mask(), original.len())?;
                origin = Some(of_mask);
                trained = Some(salient);
                Task::CountMask(seconds)
            }
            (Before::Dampens, Reached::Nothing | Reached::Prepared) => Task::Dampen(Importance::new(engine)?),
            (Before::Dampens, Reached::Saved) => Task::Nothing,
        };
        if let Some(trained) = &trained {
            engine.freeze(trained)?;
        }
        Ok((Self { task, trained, hyperparameters }, origin))
    }

    /// Finds out what there is to find out, and keeps it. `forget_share`: what the forget set is of all data. False where a
    /// stop was asked for; then there is to be no step.
    ///
    /// # Errors
    /// As [`Run::survey`], and where the disk refuses.
    pub fn carry_out<O: Backend<Buffer = B>>(
        &mut self,
        run: &Run<'_>,
        engine: &mut Engine<'_, O>,
        state: &mut RunState,
        forget_share: f64,
    ) -> Result<bool> {
        let Hyperparameters { alpha, lambda, saliency, .. } = self.hyperparameters;
        match std::mem::replace(&mut self.task, Task::Nothing) {
            Task::Nothing => Ok(true),
            Task::Dampen(importance) => {
                let dampening = Dampening { alpha: filled(alpha), lambda: filled(lambda), forget_share };
                importance.dampen(run, engine, state, dampening)
            }
            Task::CountMask(seconds) => {
                state.seconds = state.seconds.max(seconds);
                Ok(true)
            }
            Task::FindMask => {
                self.trained = salun::mask(run, engine, state, filled(saliency))?;
                let Some(salient) = &self.trained else { return Ok(false) };
                if run.session.ranks.is_first() {
                    let (seconds, origin) = (state.seconds, run.origin.clone());
                    Mask { salient: salient.clone(), seconds, origin }.write(&run.directory.mask())?;
                }
                engine.freeze(salient)?;
                Ok(true)
            }
        }
    }

    /// How many weights the steps change, where it is not all.
    pub fn trained(&self) -> Option<usize> {
        self.trained.as_ref().map(|trained| trained.iter().filter(|flag| **flag).count())
    }
}
