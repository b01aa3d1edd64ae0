//! warren-nodes
