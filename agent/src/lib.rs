//! warren-agent
