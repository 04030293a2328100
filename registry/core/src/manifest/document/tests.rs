use proptest::prelude::{any, prop, proptest};
use registry_metadata::ContentKind;
use registry_types::MediaType;
use serde_json::{Value, json};

use super::{ParsedManifest, parse};
use crate::config::Limits;
use crate::error::CoreError;

fn descriptor(media_type: &str, byte: char, size: u64) -> Value {
    let digest = format!("sha256:{}", byte.to_string().repeat(64));
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": descriptor("application/x.config", 'c', 10),
        "layers": [descriptor("application/x.layer", 'a', 20), descriptor("application/x.layer", 'b', 30)],
    })
}

fn read(content_type: &str, manifest: &Value) -> Result<ParsedManifest, CoreError> {
    parse(content_type, manifest.to_string().as_bytes(), &Limits::default())
}

#[test]
fn an_image_names_its_configuration_and_then_its_layers() {
    let parsed = read(MediaType::OCI_MANIFEST, &image()).unwrap();
    let kinds: Vec<_> = parsed.contents.iter().map(|content| (content.kind, content.size)).collect();
    assert_eq!(kinds, [(ContentKind::Config, 10), (ContentKind::Layer, 20), (ContentKind::Layer, 30)]);
    assert_eq!(parsed.config_media_type.as_deref(), Some("application/x.config"));
    assert_eq!(parsed.referrer_artifact_type(), "application/x.config");
    assert_eq!(parsed.subject, None);
}

#[test]
fn an_index_names_its_children() {
    let index = json!({
        "schemaVersion": 2,
        "manifests": [descriptor(MediaType::OCI_MANIFEST, 'a', 5)],
        "subject": descriptor(MediaType::OCI_MANIFEST, 'e', 7),
        "annotations": { "k": "v" },
    });
    let parsed = read(MediaType::OCI_INDEX, &index).unwrap();
    assert_eq!(parsed.contents[0].kind, ContentKind::Child);
    assert_eq!(parsed.subject.unwrap().hex(), "e".repeat(64));
    assert_eq!(parsed.annotations["k"], "v");
}

#[test]
fn an_artifact_type_of_its_own_comes_before_the_configurations() {
    let mut manifest = image();
    manifest["artifactType"] = json!("application/x.artifact");
    let parsed = read(MediaType::OCI_MANIFEST, &manifest).unwrap();
    assert_eq!(parsed.referrer_artifact_type(), "application/x.artifact");
    manifest["artifactType"] = json!("");
    let parsed = read(MediaType::OCI_MANIFEST, &manifest).unwrap();
    assert_eq!(parsed.referrer_artifact_type(), "application/x.config");
}

#[test]
fn what_is_image_and_index_at_once_is_neither() {
    let mut both = image();
    both["manifests"] = json!([]);
    assert!(matches!(read(MediaType::OCI_MANIFEST, &both), Err(CoreError::ManifestInvalid(_))));
    both["mediaType"] = json!(MediaType::OCI_INDEX);
    assert!(matches!(read(MediaType::OCI_INDEX, &both), Err(CoreError::ManifestInvalid(_))));
}

#[test]
fn limits_hold() {
    let limits = Limits { manifest_bytes: 10, ..Limits::default() };
    let text = image().to_string();
    let refused = parse(MediaType::OCI_MANIFEST, text.as_bytes(), &limits);
    assert!(matches!(refused, Err(CoreError::ManifestTooLarge { limit: 10 })));
    let limits = Limits { descriptors: 2, ..Limits::default() };
    let refused = parse(MediaType::OCI_MANIFEST, text.as_bytes(), &limits);
    assert!(
        matches!(refused, Err(CoreError::ManifestInvalid(why)) if why.contains("3 descriptors, and a manifest may name 2"))
    );
}

proptest! {
    #[test]
    fn no_input_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(MediaType::OCI_MANIFEST, &bytes, &Limits::default());
    }

    #[test]
    fn no_damaged_manifest_makes_the_reader_panic(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = image().to_string().into_bytes();
        let index = at % bytes.len();
        bytes[index] = byte;
        let _ = parse(MediaType::OCI_MANIFEST, &bytes, &Limits::default());
    }
}
