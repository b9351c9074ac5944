//! The size report: what each way of reaching the backend costs, measured on images that boot.

pub mod check;
pub mod compare;
pub mod document;
pub mod html;
pub mod layout;
pub mod measure;
pub mod model;
pub mod reference;
