"""Words that are one token, with and without a leading space, in GPT-2's and in SmolLM2's vocabulary.

Checked against GPT-2's vocab.json and SmolLM2's tokenizer; `tests/cache/test_words.py` repeats SmolLM2's half.
"""

from types import MappingProxyType

NAMES = tuple(
    """Tom Sam Ben Max Jack Mary John Anna Paul Mark Luke Adam Jane Rose Alex Peter David James Maria Alice Henry
    George Frank Simon Scott Nick Matt Greg Robert Richard William Charles Daniel Michael Martin Carl Ken Don Jim
    Bob Bill Fred Ray Lee Neil Dan Tim Ann Sarah Elizabeth Taylor Arthur Leon Stephen Thomas Edward Rob Chris Pat
    Kim Clark Grant""".split()
)
"""First names."""

OBJECTS = tuple(
    """Van Car Pen Box Book Ring Key Ball Bell Bone Bus Card Chain Cap Flag Gate Lock Map Mask Net Paper Phone Pin Pot
    Radio Screen Shell Table Tool Train Tube Wall Watch Wire Window Apple Corn Fish Salt Cat Dog Bird Tree Rock
    Stone Sand Snow Rain Wind Star Moon Sun River Lake Hill""".split()
)
"""Capitalised things."""

CONTROL_WORDS = MappingProxyType(
    {
        "animals": tuple(
            """cat dog horse bear wolf fox mouse rat bird fish hen owl ape bat bee ant fly worm bull crow bug
            cod""".split()
        ),
        "objects": tuple(
            """table chair door window cup glass plate box bag book pen paper clock phone key lock chain ring coin hat
            coat shirt belt button brush bed wheel engine car bus train boat ship plane flag camera radio computer
            screen map ball bridge wall floor stone tile pipe wire board gate card shield bow gun thread cloth jar
            pan pot oven fan tank cart""".split()
        ),
        "colours": tuple(
            """red blue green black white gold gray brown orange yellow tan amber lime rose rust sand ash""".split()
        ),
    }
)
"""Category -> words, in no order that a model could know."""
