//! How results are shown: scores of networks as tables, CSV and JSON; of an audit and of a whole study, a page. Only reads
//! results; computes nothing but their statistics and layout.

pub mod audit;
pub mod evaluation;
pub mod page;
pub mod study;
