//! RabbitMQ: connections and sessions, exchanges and queues, and messages as bytes with properties.
//! Nothing here knows what a hit is.
//!
//! | file | what it does |
//! |---|---|
//! | [`connect`] | opens and closes one connection |
//! | [`filter`], [`filtered`], [`filtered_connect`] | what cannot be read is rewritten |
//! | [`mark`] | whether a message was rewritten |
//! | [`session`] | two supervised connections of a worker, from connecting to the first loss |
//! | [`session_end`] | tells every task that the session is over |
//! | [`subscription`] | one shard that is read, and its acks |
//! | [`message`], [`properties`], [`fit`] | a message, and what of it goes to the next queue |
//! | [`signing`] | whose history of a message is believed |
//! | [`publisher`] | publishes that are mandatory and confirmed |
//! | [`topology`] | exchanges, queues and bindings: described, declared, verified, compared |
//! | [`restore`] | what is deleted while the relay works is declared again |
//! | [`depths`] | how many messages lie in which queue |
//! | [`dead_letter`], [`browser`] | messages in *parked* and *rejected*, read without being taken |
//! | [`rights`] | what the AMQP user may do |
//! | [`version`] | which RabbitMQ answers |
//! | [`workers`] | how many workers there are, where they share out the shards themselves |
//! | [`error`] | what can go wrong, in words that name the remedy |

pub mod browser;
pub mod connect;
pub mod dead_letter;
pub mod depths;
pub mod error;
pub mod filter;
pub mod filtered;
pub mod filtered_connect;
pub mod fit;
pub mod mark;
pub mod message;
pub mod properties;
pub mod publisher;
pub mod restore;
pub mod rights;
pub mod session;
pub mod session_end;
pub mod signing;
pub mod subscription;
pub mod topology;
pub mod version;
pub mod workers;

pub use error::BrokerError;
pub use lapin::Connection;
