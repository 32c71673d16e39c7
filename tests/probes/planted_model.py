"""A bigram model whose residual stream is known: the last token's code of its member, its family and its position.

Its blocks add nothing. digits and numwords share their codes, those of the others are their own. Prompts end with the
member shown last, so that the code of the last token is that of the member shown last.
"""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cache import load_model, plan_recording
from cache.families.family import FAMILIES, Family, control_family
from cache.prompts.prompt import Prompt, Prompts
from tests.recordings import recorded

MEMBERS = range(2, 9)
N_CONTROLS = 10
WORDS = tuple(dict.fromkeys(word for i in range(12) for word in control_family(i, range(1, 10)).members))
CONTROLS = {f"control:{i}": Family(f"control:{i}", WORDS[9 * i : 9 * i + 9], first=1) for i in range(N_CONTROLS)}
ALL = {**FAMILIES, **CONTROLS}
CODES = {"digits": 0, "numwords": 0, "months": 1, "letters": 2, **{name: 3 + i for i, name in enumerate(CONTROLS)}}
WIDTH = 10
N_CODES = (3 + N_CONTROLS) * WIDTH
D_MODEL = N_CODES + 60


def code_matrix():
    """One unit code for each member of each set of codes."""
    return torch.eye(len(set(CODES.values())) * WIDTH, D_MODEL).reshape(-1, WIDTH, D_MODEL)


def planted_model(tokenizer, folder):
    """Save and load the model."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        bos_token_id=0,
        eos_token_id=0,
        n_positions=32,
        n_embd=D_MODEL,
        n_layer=2,
        n_head=2,
        n_inner=8,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config).eval()
    codes, families = code_matrix(), torch.eye(D_MODEL)[N_CODES:]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.transformer.ln_f.weight.fill_(1)
        model.transformer.wpe.weight[:, -40:] = 0.7 * torch.randn(32, 40, generator=torch.Generator().manual_seed(0))
        for number, (family, which) in enumerate(CODES.items()):
            tokens = [tokenizer.encode(" " + ALL[family].member(m)) for m in range(1, 10)]
            assert all(len(one) == 1 for one in tokens)
            for k, (token,) in enumerate(tokens[:-1]):
                model.transformer.wte.weight[token] = codes[which, k] + families[number]
                model.lm_head.weight[tokens[k + 1][0]] = codes[which, k] + families[number]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(str(folder), device="cpu")


def prompt(family, values, template, kind="increasing", answer=None):
    """`cat cat ... 1 2 3`, whose template is the number of words before."""
    members = [ALL[family].member(value) for value in values]
    text, spans = " ".join(["cat"] * (1 + template)), []
    for member in members:
        text += " "
        spans.append((len(text), len(text) + len(member)))
        text += member
    said = " " + ALL[family].member(values[-1] + 1 if answer is None else answer)
    return Prompt(text, family, "cats", template, kind, tuple(values), tuple(members), tuple(spans), said)


def planted_prompts(families=tuple(CODES), templates=8, members=MEMBERS):
    """Increasing prompts of every family, template and index."""
    return Prompts(
        tuple(
            prompt(family, (m - 1, m), template)
            for family in families
            for template in range(templates)
            for m in members
        )
    )


def planted_store(model, prompts, path):
    """Record the prompts' shown members and last tokens."""
    return recorded(model, plan_recording(model, prompts, sites="resid", positions="members"), path)
