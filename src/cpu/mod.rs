pub mod tile;
