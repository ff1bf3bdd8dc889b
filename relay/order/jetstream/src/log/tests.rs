use super::*;

fn wanted() -> StreamConfig {
    let keys =
        [(GENERATION, 7), (PARTITION_NUMBER, 0), (PARTITIONS, 1), (FOLD, FOLD_VERSION), (MESSAGE_FORM, FORM.into())];
    StreamConfig {
        name: "QUIP_0".to_owned(),
        subjects: vec!["QUIP_0".to_owned()],
        discard: DiscardPolicy::New,
        num_replicas: 3,
        deny_delete: true,
        metadata: keys.map(|(key, value)| (key.to_owned(), value.to_string())).into(),
        ..StreamConfig::default()
    }
}

#[test]
fn a_stream_that_could_lose_or_change_messages_is_refused() {
    assert_eq!(judge(&wanted(), &wanted()).unwrap(), 7);
    let spoilt: [fn(&mut StreamConfig); 14] = [
        |config| config.subjects.push("more".to_owned()),
        |config| config.retention = RetentionPolicy::WorkQueue,
        |config| config.storage = StorageType::Memory,
        |config| config.discard = DiscardPolicy::Old,
        |config| config.max_age = Duration::from_secs(1),
        |config| config.max_message_size = 1000,
        |config| config.max_messages_per_subject = 1,
        |config| config.deny_delete = false,
        |config| config.allow_rollup = true,
        |config| config.allow_message_ttl = true,
        |config| config.no_ack = true,
        |config| config.sealed = true,
        |config| config.persist_mode = Some(PersistenceMode::Async),
        |config| config.sources = Some(Vec::new()),
    ];
    for spoil in spoilt {
        let mut found = wanted();
        spoil(&mut found);
        assert!(matches!(judge(&found, &wanted()), Err(ClusterError::Settings { .. })), "{found:?}");
    }
    let fewer = StreamConfig { num_replicas: 1, ..wanted() };
    assert!(matches!(judge(&fewer, &wanted()), Err(ClusterError::Replicas { found: 1, configured: 3, .. })));
}

#[test]
fn a_stream_of_another_kind_is_refused() {
    let with = |key: &str, value: Option<&str>| {
        let mut found = wanted();
        match value {
            Some(value) => found.metadata.insert(key.to_owned(), value.to_owned()),
            None => found.metadata.remove(key),
        };
        judge(&found, &wanted())
    };
    for value in [None, Some("0"), Some("x"), Some("9007199254740992")] {
        assert!(matches!(with(GENERATION, value), Err(ClusterError::Foreign(_))), "{value:?}");
    }
    for key in [PARTITION_NUMBER, PARTITIONS, FOLD, MESSAGE_FORM] {
        for value in [None, Some("77")] {
            assert!(matches!(with(key, value), Err(ClusterError::Version { .. })), "{key} {value:?}");
        }
    }
    assert_eq!(with("_nats.level", Some("5")).unwrap(), 7, "what the server adds");
}

#[test]
fn a_server_must_be_new_enough_and_sync_always() {
    let server = |version: &str, always: bool| -> Result<(), ClusterError> {
        let says = format!(
            r#"{{"server_name":"n","version":"{version}","jetstream":{{"config":{{"sync_always":{always}}}}}}}"#
        );
        judge_server(&serde_json::from_str(&says).unwrap())
    };
    for version in ["2.15.0", "2.15.1", "2.16.0-RC.1", "3.0.0"] {
        server(version, true).unwrap();
        assert!(matches!(server(version, false), Err(ClusterError::NotSynced(_))));
    }
    for version in ["2.14.9", "1.99.0", "x"] {
        assert!(matches!(server(version, true), Err(ClusterError::OldServer { .. })), "{version}");
    }
}
