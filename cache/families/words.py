"""Words that are one token in GPT-2's and in SmolLM2's vocabulary: bare, and (but for characters) after a space.

Checked against GPT-2's vocab.json and SmolLM2's tokenizer; `tests/cache/families/test_words.py` repeats SmolLM2's half.
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
            """cat dog horse bear wolf fox mouse rat bird fish hen owl ape bat bee ant fly worm bull crow bug cod
            ram ox buck hog ray python""".split()
        ),
        "body": tuple(
            """hand head arm leg eye ear mouth neck foot toe finger heart brain skin bone blood hair lip chin hip
            face rib body feet lap brow back""".split()
        ),
        "materials": tuple(
            """wood stone metal glass iron tin lead gold paper sand coal oil gas ink carbon mud dust ash cloth
            lime tar amber gel oxide acid powder fuel protein ore""".split()
        ),
        "food": tuple(
            """apple rice bread meat egg wine pie corn bean nut fruit ham cookie jam meal fig tree grass flower
            leaf root seed bush vine weed pine rose stem log crop plant forest""".split()
        ),
        "places": tuple(
            """house school church bank hospital office store shop farm city town castle tower park lake river
            hill sea road street station port library court market room hall camp field mine college home yard
            lab bar club pub shed pool ranch mill stream bay""".split()
        ),
        "people": tuple(
            """man woman boy girl child baby father mother brother son daughter aunt king doctor writer artist
            actor driver friend student guard hero player worker wife bishop parent owner founder editor
            author manager director president agent patient leader""".split()
        ),
        "objects": tuple(
            """table chair door window cup plate box bag book pen clock phone key lock chain ring coin hat coat
            shirt belt button brush bed wheel engine car bus train boat ship plane flag camera radio computer
            screen map ball bridge wall floor tile pipe wire board gate card shield bow gun thread jar pan pot
            oven fan tank cart bolt hook gear net tool stick rod tube filter switch dial boot tie cap hood
            robe mask vest""".split()
        ),
    }
)
"""Category -> lower-case words, in no order that a model could know."""

CONTROL_CAPITALS = MappingProxyType(
    {
        "lands": tuple(
            """America France Germany Italy Spain China Japan India Russia Canada Australia England Egypt Iran
            Israel Mexico Brazil Pakistan Britain Europe Asia London Paris Boston Chicago Washington
            California Texas Florida Virginia""".split()
        ),
        "peoples": tuple(
            """American British French German Spanish Italian Russian Chinese Japanese Indian Canadian Australian
            Irish Dutch Greek Roman Latin African European Asian Arab Jewish Islamic Muslim Christian Catholic
            Soviet Hispanic""".split()
        ),
        "persons": tuple(
            """Smith Johnson Williams Brown Jones Davis Miller Wilson Anderson Jackson Lewis Collins Ross Adams
            Marx Joseph Andrew Matthew Jacob Jeff Louis Alexander Emily Anne Marie Jon Josh Jamie Jean Lou Ali
            Phil Jesus""".split()
        ),
        "nouns": tuple(
            """Water Light Power Music Game Story Love Night Energy Factory Captain Queen Prince Lord Saint God
            Earth Ocean Color Picture Photo Video Audio Battle Mission Quest Magic Spirit Truth Freedom Peace
            Law Nature Science History Art Language Food Silver Fire Ice Motor Server Professor Family People
            Kit""".split()
        ),
    }
)
"""Category -> capitalised words, the class of months and days."""

CONTROL_CHARACTERS = MappingProxyType(
    {
        "symbols": tuple(
            """^ | – • ° · ─ © € █ ′ 。 ″ ‐ » × † ´ ¢ ● ‑ ═ 、 § → ± «""".split()  # noqa: RUF001  # alike to us, not to a tokenizer
        ),
        "accented": tuple("""é á ā í ü ó ö ä â ñ è ç ī ō ã ú æ à ū š ô ø ê ē ł ï ë å ć č ð î ş ß û ğ""".split()),
    }
)
"""Category -> single characters, the class of digits and letters; one token each where no space stands before them."""

CONTROL_CLASSES = MappingProxyType(
    {"words": CONTROL_WORDS, "capitals": CONTROL_CAPITALS, "characters": CONTROL_CHARACTERS}
)
"""Token class -> category -> words; no word stands in two of them, in whatever case."""
