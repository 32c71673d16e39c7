"""A real byte-level tokenizer, trained on our own words in a moment; nothing is downloaded."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cache.families.family import FAMILIES
from cache.families.words import CONTROL_CLASSES, NAMES, OBJECTS


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE tokenizer like GPT-2's, in which every word of ours is one token with and without space."""
    words = [member for family in FAMILIES.values() for member in family.members]
    words += [*NAMES, *OBJECTS]
    words += [word for pool in CONTROL_CLASSES.values() for category in pool.values() for word in category]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=6000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([f"{word} {word}" for word in words * 3], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=64
    )
