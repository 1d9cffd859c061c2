//! An audit for people: as text, and as a page of its own.

pub mod page;
pub mod text;

pub use page::write_page;
pub use text::text;
