//! The relay, the library and the commands together, end to end. One program, since each costs a link; the test runner gives
//! every test a process of its own.

mod certificate;
mod changed;
mod chat_pipe;
mod chat_screen;
mod cluster;
mod conversation;
mod copied;
mod damaged;
mod deleting;
mod devices;
mod documents;
mod ends;
mod examples;
mod faulty_order;
mod followers;
mod hostile;
mod isolation;
mod jwks;
mod last_seen;
mod limits;
mod memberships;
mod memory;
mod opening;
mod per_user;
mod power_loss;
mod presence;
mod reading;
mod restore;
mod roles;
mod shim;
mod shutdown;
mod torture;
mod unread_log;
mod unwelcome;
mod warm;
