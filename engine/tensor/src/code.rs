//! Codes of refused model files: what an engine says, a spec expects and the wire carries.

use std::fmt;
use std::str::FromStr;

macro_rules! codes {
    ($($name:ident $text:literal $doc:literal;)*) => {
        /// What is wrong with a model file. The words are part of the wire and of specs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $(#[doc = $doc] $name),* }

        impl Code {
            /// Every code, in alphabetical order of the words.
            pub const ALL: &[Code] = &[$(Code::$name),*];

            /// The word in messages, on the wire and in specs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text),* }
            }
        }
    };
}

codes! {
    Added "ADDED" "An added token without text, or with an id that another token has.";
    Align "ALIGN" "An alignment that is no power of two.";
    AlignRange "ALIGN_RANGE" "An alignment above 65,536.";
    AlignType "ALIGN_TYPE" "An alignment that is no u32.";
    ArchUnknown "ARCH_UNKNOWN" "An architecture that this engine does not run.";
    ArrLen "ARR_LEN" "An array longer than the rest of the file, or than the limit.";
    ArrNested "ARR_NESTED" "An array of arrays.";
    ArrType "ARR_TYPE" "An element type that does not exist.";
    Block "BLOCK" "A row that is no whole number of quantised blocks.";
    Bool "BOOL" "A boolean byte other than 0 and 1.";
    BosPolicy "BOS_POLICY" "A beginning of text is promised that nothing adds.";
    ByteAlphabet "BYTE_ALPHABET" "A byte without its letter among the tokens.";
    ByteFallback "BYTE_FALLBACK" "Fallback to bytes without the tokens `<0x00>` to `<0xFF>`.";
    Charsmap "CHARSMAP" "A compiled table of characters that is broken.";
    Count "COUNT" "More records than the file can hold, or than the limit.";
    DataShort "DATA_SHORT" "A tensor whose data end after the file.";
    Decoder "DECODER" "A decoder that the tokens do not have.";
    DimOverflow "DIM_OVERFLOW" "Dimensions whose product does not fit.";
    DimRange "DIM_RANGE" "A dimension above 2^63 - 1.";
    Dropout "DROPOUT" "Merges that are left out at random.";
    Dtype "DTYPE" "A safetensors type that does not exist.";
    Endian "ENDIAN" "A big-endian file.";
    Expansion "EXPANSION" "A step that makes a text much longer.";
    Gap "GAP" "Bytes between two tensors that belong to none.";
    Hash "HASH" "A file whose bytes are not those that were hashed before.";
    HeaderFirstByte "HEADER_FIRST_BYTE" "A JSON header that does not begin with a brace.";
    HeaderLen "HEADER_LEN" "A JSON header longer than the file, or than the limit.";
    Io "IO" "The system would not open or read the file.";
    Json "JSON" "Text that is no JSON.";
    JsonDepth "JSON_DEPTH" "JSON nested deeper than 128.";
    JsonDup "JSON_DUP" "A key that stands twice in an object.";
    JsonTrailing "JSON_TRAILING" "Text after the JSON value.";
    JsonType "JSON_TYPE" "A JSON value of another type than the format has there.";
    JsonUnknown "JSON_UNKNOWN" "A field that the format does not have.";
    KeyChars "KEY_CHARS" "A metadata key with control characters, or that is not ASCII.";
    KeyDup "KEY_DUP" "A metadata key that stands twice.";
    KeyEmpty "KEY_EMPTY" "An empty metadata key.";
    KeyLen "KEY_LEN" "A metadata key longer than the rest of the file, or than 65,535 bytes.";
    KeyUtf8 "KEY_UTF8" "A metadata key that is not UTF-8.";
    Magic "MAGIC" "A file that does not begin like a model file.";
    Merge "MERGE" "A merge of tokens, or into a token, that is not there.";
    MergePrefix "MERGE_PREFIX" "A prefix or suffix of pieces.";
    Model "MODEL" "A model of tokens that is not offered.";
    NameChars "NAME_CHARS" "A tensor name with control characters.";
    NameDup "NAME_DUP" "A tensor name that stands twice.";
    NameEmpty "NAME_EMPTY" "An empty tensor name.";
    NameLen "NAME_LEN" "A tensor name longer than the format allows.";
    Ndims "NDIMS" "More than four dimensions.";
    NonfiniteScale "NONFINITE_SCALE" "A quantised block whose scale is NaN or infinite.";
    Normalizer "NORMALIZER" "A normaliser that is not offered.";
    NotRegular "NOT_REGULAR" "A path that is no regular file.";
    NoArchitecture "NO_ARCHITECTURE" "A model file that names no architecture.";
    Offset "OFFSET" "A tensor offset that is neither aligned nor inside the file.";
    OffsetAlign "OFFSET_ALIGN" "A tensor offset that is no multiple of the alignment.";
    OffsetOrder "OFFSET_ORDER" "A tensor that ends before it begins.";
    OffsetRange "OFFSET_RANGE" "A tensor offset after the end of the file.";
    Overlap "OVERLAP" "Two tensors that share bytes.";
    Padding "PADDING" "Padding that is not zero, or that cannot be done.";
    Param "PARAM" "A hyperparameter that is missing or that no such model has.";
    ParamType "PARAM_TYPE" "A hyperparameter of another type.";
    Path "PATH" "A shard name that is no plain file name.";
    Pattern "PATTERN" "A pattern that matches nothing.";
    Pretok "PRETOK" "A split of texts into pieces that is not offered.";
    Range "RANGE" "A number outside of its range, or not finite.";
    Rank "RANK" "More than eight dimensions.";
    Regex "REGEX" "No regular expression.";
    RegexUnsafe "REGEX_UNSAFE" "A regular expression that nobody published for a model.";
    Shape "SHAPE" "A tensor of another shape than the configuration gives it.";
    Shard "SHARD" "Shards that do not make one checkpoint.";
    Size "SIZE" "More bytes than such a file has.";
    SizeMismatch "SIZE_MISMATCH" "Sizes in one file that disagree.";
    SizeOverflow "SIZE_OVERFLOW" "A size in bytes that does not fit.";
    SizeRange "SIZE_RANGE" "A tensor larger than the whole file.";
    StrLen "STR_LEN" "A string longer than the rest of the file, or than the limit.";
    Subbyte "SUBBYTE" "A tensor of less-than-byte elements that does not end on a byte.";
    Template "TEMPLATE" "A template that names tokens which are not there.";
    TemplateUnsupported "TEMPLATE_UNSUPPORTED" "A chat template beyond the language that is run.";
    TensorExtra "TENSOR_EXTRA" "A tensor that the model does not have.";
    TensorMissing "TENSOR_MISSING" "A tensor that the model needs.";
    Trailing "TRAILING" "Bytes after the last tensor.";
    Truncated "TRUNCATED" "The file ends inside a field.";
    Truncation "TRUNCATION" "Cutting to a length that cannot be.";
    TypeForUse "TYPE_FOR_USE" "A tensor of a type that is not computed with.";
    TypeInvalid "TYPE_INVALID" "A tensor type that cannot exist.";
    TypeRemoved "TYPE_REMOVED" "A tensor type that the format gave up.";
    TypeUnsupported "TYPE_UNSUPPORTED" "A tensor type newer than this reader.";
    Unigram "UNIGRAM" "A broken table of pieces with scores.";
    Unk "UNK" "An unknown token that is not there.";
    Utf8 "UTF8" "A string that is not UTF-8.";
    ValueType "VALUE_TYPE" "A metadata type that does not exist.";
    Version "VERSION" "A version of the format that is not read.";
    VocabByte "VOCAB_BYTE" "Byte tokens that are not the 256 bytes.";
    VocabDiff "VOCAB_DIFF" "Two vocabularies of one model that disagree.";
    VocabDup "VOCAB_DUP" "Two tokens of one text.";
    VocabEmpty "VOCAB_EMPTY" "No token at all.";
    VocabId "VOCAB_ID" "A special id outside of the vocabulary.";
    VocabIdDup "VOCAB_ID_DUP" "Two tokens with one id.";
    VocabLen "VOCAB_LEN" "Lists of a vocabulary that differ in length.";
    VocabSize "VOCAB_SIZE" "More tokens than the model has rows.";
    VocabToken "VOCAB_TOKEN" "A token without text.";
    VocabType "VOCAB_TYPE" "A list of a vocabulary of another type.";
    WeightNonfinite "WEIGHT_NONFINITE" "A weight that is NaN or infinite.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no [`Code`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no code of a refused file")]
pub struct UnknownCode(pub String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(word: &str) -> Result<Code, UnknownCode> {
        let found = Code::ALL.iter().copied().find(|c| c.as_str() == word);
        found.ok_or_else(|| UnknownCode(word.to_owned()))
    }
}
