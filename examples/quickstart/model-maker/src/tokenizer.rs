//! Learns the vocabulary: byte-level BPE, so that any text can be written, with single digits and three special tokens.

use anyhow::{Error, Result};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use crate::corpus::Corpus;
use crate::rng::Rng;

/// Ends a document; also the padding token.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// Opens a turn of a conversation.
pub const START_OF_TURN: &str = "<|im_start|>";
/// Ends a turn of a conversation; the model stops here.
pub const END_OF_TURN: &str = "<|im_end|>";

/// ChatML, with the assistant's words and their end of turn marked as what a fine-tuning supervises.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\
    {% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}\
    {% else %}{{ message['content'] + '<|im_end|>\\n' }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Documents that the grammars add to the hand-written ones while the vocabulary is learned.
const GRAMMAR_DOCUMENTS: usize = 4000;

/// Learns a vocabulary of `vocab_size` entries from the corpus.
///
/// # Errors
///
/// A mistake in a grammar.
pub fn train(corpus: &Corpus, rng: &mut Rng, vocab_size: usize) -> Result<Tokenizer> {
    let mut texts = corpus.hand_written();
    for _ in 0..GRAMMAR_DOCUMENTS {
        texts.push(corpus.document(rng)?.plain());
    }
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(
            [END_OF_TEXT, START_OF_TURN, END_OF_TURN]
                .map(|token| AddedToken::from(token, true))
                .to_vec(),
        )
        .build();
    let mut tokenizer = tokenizers::TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(Sequence::new(vec![
            Digits::new(true).into(),
            ByteLevel::new(false, true, true).into(),
        ])))
        .with_post_processor(None::<tokenizers::PostProcessorWrapper>)
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(Error::msg)?;
    tokenizer
        .train(&mut trainer, texts.into_iter())
        .map_err(Error::msg)?;
    tokenizer
        .to_string(false)
        .and_then(|text| text.parse())
        .map_err(Error::msg)
}

/// Token ids of a text in which special tokens are spelled out.
///
/// # Errors
///
/// Only if the tokenizer's own parts disagree.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode_fast(text, false).map_err(Error::msg)?;
    Ok(encoding.get_ids().to_vec())
}
