//! Another identity for a data folder that was copied back from a backup, so that clients notice it.

use std::path::PathBuf;

use quip_order::{EmbeddedConfig, OrderError, Submit as _, draw_generation, embedded, renew};
use quip_store::{OpenError, Sequencer, SequencerConfig, SequencerError, Store};
use thiserror::Error;

use crate::{
    config::Config,
    identity::{DataFolder, IdentityError, Renewal},
    serve::store_config,
};

/// Why a data folder cannot be restored. The text says what to do.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The log is not in the folder.
    #[error(
        "with [cluster] the log is the stream, and a store that was copied back follows it again by itself; restore the stream"
    )]
    Cluster,
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] IdentityError),
    /// The log cannot be used.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Log and store do not fit together.
    #[error(transparent)]
    Sequencer(#[from] SequencerError),
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The folder.
    pub data: PathBuf,
    /// The generations of its log, before and after.
    pub renewal: Renewal,
}

/// Gives log and store of the config's data folder a new generation. An interrupted call is completed by another one.
///
/// # Errors
/// When the folder is in use, or a relay would not start on it.
pub fn restore(config: &Config) -> Result<Restored, RestoreError> {
    if config.cluster.is_some() {
        return Err(RestoreError::Cluster);
    }
    let folder = DataFolder::open_existing(&config.data)?;
    let renewal = match folder.renewal()? {
        Some(renewal) => renewal,
        None => {
            let renewal = Renewal { from: check(&folder, config)?, to: draw_generation() };
            folder.begin_renewal(renewal)?;
            renewal
        }
    };
    renew(&folder.log(), renewal.from, renewal.to).map_err(OrderError::from)?;
    Store::renew(&folder.store(), store_config(config), renewal.to)?;
    folder.end_renewal()?;
    Ok(Restored { data: config.data.clone(), renewal })
}

/// Starts the parts that a relay starts on the folder, and stops them in order. Gives the generation.
fn check(folder: &DataFolder, config: &Config) -> Result<u64, RestoreError> {
    let (submit, order) = embedded(&folder.log(), EmbeddedConfig::default()).map_err(OrderError::from)?;
    let generation = order.generation();
    let store = Store::open(&folder.store(), store_config(config), generation)?;
    let mut sequencer = Sequencer::start(store, order, Vec::new(), SequencerConfig::default())?;
    sequencer.catch_up()?;
    submit.close();
    sequencer.run()?;
    Ok(generation)
}
