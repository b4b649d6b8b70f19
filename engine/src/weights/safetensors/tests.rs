//! safetensors files built from their header's text: what opens, and that nothing else does.

use std::path::Path;

use super::SafeTensors;
use crate::dtype::DType;
use crate::weights::gguf::tests::in_memory;
use crate::weights::{Code, Malformed};

fn bytes(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn sample() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},
 "a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},
 "b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}, "é":
 {"dtype":"U8","shape":[0],"data_offsets":[22,22]}}  "#;
    bytes(header, &(0..22).collect::<Vec<u8>>())
}

fn open(bytes: &[u8]) -> Result<SafeTensors, Malformed> {
    let (_kept, path) = in_memory(bytes);
    let file = SafeTensors::open(&path)?;
    for tensor in file.tensors() {
        assert_eq!(file.bytes(tensor).len() as u64, tensor.bytes, "{}", tensor.name);
        assert_eq!(file.tensor(&tensor.name).map(|t| t.offset), Some(tensor.offset));
    }
    Ok(file)
}

#[test]
fn a_good_file_gives_back_what_was_written_and_what_the_published_reader_finds() {
    let good = sample();
    let file = open(&good).expect("a good file");
    let b = file.tensor("b").expect("b");
    assert!(b.dtype == DType::BF16 && b.shape == [3]);
    assert_eq!(file.bytes(b), [16, 17, 18, 19, 20, 21]);
    let theirs = safetensors::SafeTensors::deserialize(&good).expect("a good file");
    assert_eq!(theirs.len(), file.tensors().len());
    for tensor in file.tensors() {
        let view = theirs.tensor(&tensor.name).expect("the same names");
        assert_eq!((view.shape(), view.data()), (&tensor.shape[..], file.bytes(tensor)));
    }
}

#[test]
fn every_cut_is_refused_and_every_flipped_bit_is_refused_or_opens_whole() {
    let good = sample();
    for cut in 0..good.len() {
        assert!(open(&good[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << bit;
            // Whatever we take, the published reader takes as well.
            if open(&bytes).is_ok() {
                let theirs = safetensors::SafeTensors::deserialize(&bytes);
                assert!(theirs.is_ok(), "byte {at}, bit {bit}: {theirs:?}");
            }
        }
    }
}

const SHARD: &str = r#"{"NAME":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;

/// An index over two shards, of a tensor each.
fn index(folder: &Path, text: &str) -> Result<SafeTensors, Malformed> {
    for name in ["a", "b"] {
        let shard = bytes(&SHARD.replace("NAME", name), &[1, 2, 3, 4]);
        std::fs::write(folder.join(format!("{name}.safetensors")), shard).expect("written");
    }
    std::fs::write(folder.join("model.safetensors.index.json"), text).expect("written");
    SafeTensors::open(folder)
}

#[test]
fn shards_make_one_checkpoint_or_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = r#"{"metadata":{"total_size":8,"more":[{}]},
        "weight_map":{"b":"b.safetensors","a":"a.safetensors"}}"#;
    let file = index(folder.path(), good).expect("a good index");
    let shards: Vec<u16> = file.tensors().iter().map(|t| t.shard).collect();
    assert_eq!((shards, file.files().len()), (vec![0, 1], 2));
    assert!(["a", "b"].iter().all(|n| file.bytes(file.tensor(n).expect("named")) == [1, 2, 3, 4]));
    let refused = [
        (r#""total_size":8"#, r#""total_size":9"#, Code::SizeMismatch),
        (r#""b":"b.safetensors""#, r#""b":"a.safetensors""#, Code::TensorMissing),
        (r#""b":"b.safetensors""#, r#""c":"b.safetensors""#, Code::TensorMissing),
        (r#""b":"b.safetensors""#, r#""b":"../b.safetensors""#, Code::Path),
        (r#""b":"b.safetensors""#, r#""b":"/b.safetensors""#, Code::Path),
        (r#""b":"b.safetensors""#, r#""b":"b\u0000.safetensors""#, Code::Path),
        (r#""b":"b.safetensors""#, r#""b":"c.safetensors""#, Code::Shard),
        (r#""b":"b.safetensors""#, r#""b":"b.safetensors","c":"B.safetensors""#, Code::Shard),
        (r#""b":"b.safetensors""#, r#""a":"b.safetensors""#, Code::JsonDup),
        ("weight_map", "weight_maps", Code::JsonType),
    ];
    for (from, to, code) in refused {
        let text = good.replace(from, to);
        assert_eq!(index(folder.path(), &text).expect_err("a refusal").code, code, "{text}");
    }
    for cut in 0..good.len() {
        assert!(index(folder.path(), &good[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_tensor_that_no_index_lists_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let two = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "z":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    std::fs::write(folder.path().join("one.safetensors"), bytes(two, &[1, 2])).expect("written");
    let text = r#"{"weight_map":{"a":"one.safetensors"}}"#;
    std::fs::write(folder.path().join("model.safetensors.index.json"), text).expect("written");
    let file = SafeTensors::open(folder.path()).expect("a good index");
    assert_eq!(file.warnings().list(), ["tensors that the index does not list: z"]);
}
