//! Following a feed's changes comes to what reading and planning all afresh comes to, and costs what they touch.

mod histories;
mod model;
mod work;
