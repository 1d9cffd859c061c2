//! `kerase convert`: volumes and images between HDF5 and BART's cfl.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::output::{OutputDirectory, check_file, print};
use super::stop;
use crate::convert::{cfl_to_images, cfl_to_volume, images_to_cfl, volume_to_cfl, volume_to_fastmri};
use crate::data::cfl;
use crate::data::entries::is_named_as_volume;
use crate::data::set::VolumeSet;
use crate::data::volume::{Layout, VolumeFile};
use crate::error::{Error, Result};
use crate::progress::Progress;

const EXAMPLE: &str = "\
Example:
  kerase convert file1000001.h5 scan.cfl                 # k-space for BART, with scan.hdr
  kerase convert scan.cfl scan.h5 --recon 320 320        # and back, with reference images
  kerase convert --images images/file1000001.h5 a.cfl    # what kerase reconstruct made
  kerase convert list.txt cmrxrecon                      # a set, into a directory
  kerase convert brain/test bart --to bart               # a set, for BART

What is read: HDF5 of fastMRI's, M4Raw's and CMRxRecon's layouts, and BART's cfl with the
dimensions 0 (read), 1 (phase), 3 (coils), 10 (frames) and 13 (slices), or of a scan with two phase
encodings (1 and 2), which becomes slices across its readout. HDF5 is written as fastMRI has it. A
volume that becomes HDF5 has to fit into memory twice.";

/// Converts volumes and images between HDF5 and BART's cfl
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// A volume, a .cfl, or a directory or manifest of volumes
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// A file (.h5 or .cfl), or for a whole set a directory, made if it does not exist
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Convert images, not k-space: 'reconstruction' or 'reconstruction_rss' to a .cfl, or magnitudes of a .cfl to
    /// 'reconstruction'
    #[arg(long)]
    images: bool,

    /// What a set is converted to [default: fastmri]; of a file its name says it
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: Option<Format>,

    /// Size of the reference images that k-space of BART gets, from their middle [default: that of k-space]
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    recon: Option<Vec<usize>>,

    /// Replace files that exist
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Fastmri,
    Bart,
}

impl Format {
    /// What the name of a file says.
    fn of(path: &Path) -> Option<Self> {
        match path.extension().and_then(OsStr::to_str) {
            Some("cfl" | "hdr") => Some(Self::Bart),
            _ => is_named_as_volume(path).then_some(Self::Fastmri),
        }
    }

    /// That a volume is not of this format already.
    fn check(self, volume: &VolumeFile) -> Result<()> {
        if (self, volume.layout) == (Self::Fastmri, Layout::FastMri) {
            return Err(Error::input(format!(
                "{} is of fastMRI's layout already: name a .cfl, or give --to bart for a set",
                volume.path.display()
            )));
        }
        Ok(())
    }
}

impl Args {
    /// # Errors
    /// Bad input, and files that exist, before anything is written; later a slice that cannot be read or a full disk: then
    /// the files before it are whole, and the one it happened in is not there.
    pub fn run(self) -> Result<()> {
        stop::leaving_nothing_half_written();
        // BART names arrays without an extension.
        let bare = Format::of(&self.input).is_none() && !self.input.exists();
        let from = if bare && cfl::pair(&self.input)[0].exists() {
            Some(Format::Bart)
        } else {
            Format::of(&self.input)
        };
        if self.recon.is_some() && (from != Some(Format::Bart) || self.images) {
            return Err(Error::input(
                "--recon is for k-space of BART's: other volumes bring their reference images",
            ));
        }
        let named = Format::of(&self.output);
        if self.to.is_some() && named.is_some_and(|named| self.to != Some(named)) {
            return Err(Error::input(format!(
                "{} is not named as what --to asks for: leave --to out, or name another file",
                self.output.display()
            )));
        }
        match (from, named) {
            (Some(Format::Bart), Some(Format::Fastmri)) => self.bart_to_hdf5(),
            (Some(Format::Bart), _) => Err(Error::input(format!(
                "{} is BART's already: name a file .h5 that it is to become",
                self.input.display()
            ))),
            (_, Some(to)) if !self.input.is_dir() => self.one(to),
            (_, Some(_)) => Err(Error::input(format!(
                "{} is a directory: name another one that its volumes are to go to, not a file",
                self.input.display()
            ))),
            (_, None) => self.all(),
        }
    }

    fn bart_to_hdf5(self) -> Result<()> {
        self.check(Format::Fastmri)?;
        // clap has made sure that there are two.
        let recon = self.recon.as_ref().map(|size| [size[0], size[1]]);
        match self.images {
            true => cfl_to_images(&self.input, &self.output)?,
            false => cfl_to_volume(&self.input, &self.output, recon)?,
        }
        print(format_args!("{} is now {}", self.input.display(), self.output.display()))
    }

    fn one(self, to: Format) -> Result<()> {
        if self.images {
            if to != Format::Bart {
                return Err(Error::input(
                    "--images turns HDF5 into a .cfl, or a .cfl into HDF5: name a .cfl",
                ));
            }
            self.check(to)?;
            images_to_cfl(&self.input, &self.output)?;
        } else {
            let volume = VolumeFile::open(&self.input)?;
            to.check(&volume)?;
            self.check(to)?;
            convert(&volume, &self.output, to)?;
        }
        print(format_args!("{} is now {}", self.input.display(), self.output.display()))
    }

    fn all(self) -> Result<()> {
        if self.images {
            return Err(Error::input(format!(
                "--images converts one file: {} is neither .h5 nor .cfl",
                self.output.display()
            )));
        }
        let to = self.to.unwrap_or(Format::Fastmri);
        let set = VolumeSet::open(&self.input)?;
        for (index, volume) in set.volumes().iter().enumerate() {
            let chosen = set.slices_of(index).len();
            if chosen != volume.slices {
                return Err(Error::input(format!(
                    "{} chooses {chosen} of the {} slices of {}, and convert takes whole volumes: leave slices=… out",
                    self.input.display(),
                    volume.slices,
                    volume.path.display()
                )));
            }
        }
        let out = OutputDirectory::create(&self.output)?;
        let mut places = Vec::new();
        for volume in set.volumes() {
            let place = match to {
                Format::Fastmri => out.file(&volume.name, self.overwrite)?,
                Format::Bart => {
                    let [header, data] = cfl::pair(&Path::new(&volume.name).with_extension("cfl"));
                    out.file(header, self.overwrite)?;
                    out.file(data, self.overwrite)?
                }
            };
            if places.contains(&place) {
                return Err(Error::input(format!(
                    "two volumes of {} would become {}: convert them into two directories",
                    self.input.display(),
                    place.display()
                )));
            }
            refuse_itself(&volume.path, &place)?;
            to.check(volume)?;
            places.push(place);
        }
        let mut progress = Progress::new(places.len() as u64, "converting");
        for (volume, place) in set.volumes().iter().zip(&places) {
            convert(volume, place, to)?;
            progress.step("");
        }
        progress.finish();
        print(format_args!("converted {} volumes into {}", places.len(), out.path().display()))
    }

    /// That the output can be written.
    fn check(&self, to: Format) -> Result<()> {
        refuse_itself(&self.input, &self.output)?;
        match to {
            Format::Fastmri => check_file(&self.output, self.overwrite),
            Format::Bart => {
                cfl::pair(&self.output).iter().try_for_each(|file| check_file(file, self.overwrite))
            }
        }
    }
}

fn refuse_itself(from: &Path, to: &Path) -> Result<()> {
    match (from.canonicalize(), to.canonicalize()) {
        (Ok(a), Ok(b)) if a == b => {
            Err(Error::input(format!("{} would be replaced by itself: name another place", from.display())))
        }
        _ => Ok(()),
    }
}

fn convert(volume: &VolumeFile, to: &Path, format: Format) -> Result<()> {
    match format {
        Format::Bart => volume_to_cfl(volume, to),
        Format::Fastmri => volume_to_fastmri(volume, to),
    }
}
