//! What an engine keeps on the device, a number for every parameter: brought there and read back.

use super::Engine;
use super::transfer::{download, read, singles, sum};
use crate::backend::{Backend, Clear, Purpose};
use crate::error::Result;
use crate::ranks::Ranks;
use crate::real::Real;

impl<B: Backend> Engine<'_, B> {
    pub fn set_parameters(&mut self, parameters: &[f32]) {
        self.ops.upload(singles(&mut self.host, parameters), &mut self.parameters);
    }

    /// # Errors
    /// Where the device fails, or did before.
    pub fn parameters(&mut self) -> Result<Vec<f32>> {
        download(self.ops, &mut self.host, &self.parameters, self.net.layout.len())
    }

    /// Adam's first and second moment.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    pub fn moments(&mut self) -> Result<[Vec<f32>; 2]> {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        let mut moment = |buffer| download(self.ops, &mut self.host, buffer, len);
        Ok([moment(&learning.first_moment)?, moment(&learning.second_moment)?])
    }

    pub fn set_moments(&mut self, [first, second]: [&[f32]; 2]) {
        let learning = self.learning.as_mut().expect("an engine for training");
        self.ops.upload(singles(&mut self.host, first), &mut learning.first_moment);
        self.ops.upload(singles(&mut self.host, second), &mut learning.second_moment);
    }

    /// The gradient gathered since the last update.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    pub fn gradient(&mut self) -> Result<Vec<f64>> {
        let learning = self.learning.as_ref().expect("an engine for training");
        let len = self.net.layout.len();
        Ok(read(self.ops, &mut self.host, &learning.gradient, len)?.iter().map(|x| x.as_f64()).collect())
    }

    /// Takes in another network of this architecture, whose images may be targets; returns its number.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    ///
    /// # Panics
    /// Where the number of parameters is not the architecture's.
    pub fn add_teacher(&mut self, parameters: &[f32]) -> Result<usize> {
        assert_eq!(parameters.len(), self.net.layout.len(), "parameters of another network");
        let mut teacher = self.as_parameters(Purpose::Parameters)?;
        self.ops.upload(singles(&mut self.host, parameters), &mut teacher);
        self.teachers.push(teacher);
        Ok(self.teachers.len() - 1)
    }

    /// From now on updates leave the parameters alone for which `trained` is false, with their moments, and their
    /// gradient is no part of the norm.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    ///
    /// # Panics
    /// Where their number is not the architecture's.
    pub fn freeze(&mut self, trained: &[bool]) -> Result<()> {
        assert_eq!(trained.len(), self.net.layout.len(), "a flag for every parameter");
        let flags: Vec<f32> = trained.iter().map(|&flag| f32::from(u8::from(flag))).collect();
        let learning = self.learning.as_mut().expect("an engine for training");
        let mut mask = match learning.mask.take() {
            Some(mask) => mask,
            None => self.as_parameters(Purpose::Optimiser)?,
        };
        self.ops.upload(singles(&mut self.host, &flags), &mut mask);
        self.learning.as_mut().expect("an engine for training").mask = Some(mask);
        Ok(())
    }

    /// A zero for every parameter.
    ///
    /// # Errors
    /// Where the device has not enough memory.
    pub fn as_parameters(&self, purpose: Purpose) -> Result<B::Buffer> {
        self.ops.in_one_block(self.beside(), || Ok(self.ops.zeros(purpose, self.net.layout.len())))
    }

    /// Numbers on the device, one for every parameter.
    ///
    /// # Errors
    /// As [`Self::parameters`].
    pub fn read(&mut self, values: &B::Buffer) -> Result<Vec<f64>> {
        let len = self.net.layout.len();
        Ok(read(self.ops, &mut self.host, values, len)?.iter().map(|x| x.as_f64()).collect())
    }

    /// Forgets the gathered gradient.
    pub fn clear_gradient(&mut self) {
        self.ops.run(Clear { buffer: &mut self.learning.as_mut().expect("an engine for training").gradient });
    }

    /// Sums numbers on the devices of the ranks, one for every parameter.
    ///
    /// # Errors
    /// Where another rank is lost.
    pub fn sum(&mut self, ranks: &Ranks, values: &mut B::Buffer) -> Result<()> {
        sum(self.ops, ranks, &mut self.host, values, self.net.layout.len())
    }
}
