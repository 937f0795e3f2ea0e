"""The words of `sell`: what the shop has, what a customer may need, how both are said.

Constant tables only. Every value is one plain word that belongs to one need. Which claim is true of
which bag, and which make costs how much, is constant and never said to the seller.
"""

# Need -> the values a customer may wish, and the word that names them in a bag.
USES: tuple[str, ...] = ("travel", "office", "sport", "school", "beach", "camera")
SIZES: tuple[str, ...] = ("small", "middle", "large")
COLOURS: tuple[str, ...] = ("black", "green", "brown", "red")
BUDGETS: tuple[str, ...] = ("twenty", "forty", "eighty", "ninety")  # what a customer can spend
MAKES: tuple[str, ...] = ("basic", "solid", "fine", "royal")  # the make that costs just that

NEEDS: dict[str, tuple[str, ...]] = {"use": USES, "size": SIZES, "colour": COLOURS}
BUDGET = "budget"

# The one claim that is true of the bags for a use; of all other bags it is false.
CLAIMS: dict[str, str] = {
    "travel": "light",
    "office": "padded",
    "sport": "waterproof",
    "school": "roomy",
    "beach": "washable",
    "camera": "shockproof",
}

# The seller's phrasings. The reader accepts more than these.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "use": ("what use is it for ?", "which use do you have in mind ?"),
    "size": ("which size do you like ?", "and the size ?"),
    "colour": ("which colour do you like ?", "and the colour ?"),
    BUDGET: ("what is your budget ?", "and the budget ?"),
}
OFFERS: tuple[str, ...] = ("take the {bag} bag ,", "the {bag} bag is right ,")
CLAIM = "it is {claim} ."
PRICE = "it costs {price} ."
EXPLAIN: tuple[str, ...] = ("we repair it for free .", "free repair for ten years .")
DISCOUNT: tuple[str, ...] = ("i give you a discount .", "with a discount , deal ?")
WAIT: tuple[str, ...] = ("sorry , take your time .", "no hurry , look around .")
CHAT: tuple[str, ...] = ("how is your day ?", "nice weather today .")

# The customer's. How much it trusts is heard in how it starts a sentence: cold, open, warm.
TONES: tuple[tuple[str, ...], ...] = (
    ("hm ,", "well ,"),
    ("ok ,", "right ,"),
    ("great ,", "oh nice ,"),
)
GREETINGS: tuple[str, ...] = ("i look for a bag .", "i want to see a bag .", "do you sell bags ?")
IN_A_HURRY: tuple[str, ...] = ("i am in a hurry .", "i have a train to catch .")
ANSWERS: dict[str, tuple[str, ...]] = {
    "use": ("for {value} .", "i need it for {value} ."),
    "size": ("a {value} one .", "it should be {value} ."),
    "colour": ("in {value} .", "{value} would be nice ."),
    BUDGET: ("about {value} .", "i can spend {value} ."),
}
TOO_DEAR: tuple[str, ...] = ("too dear , i have {value} .", "that is over my {value} .")
WRONG: tuple[str, ...] = ("not that one .", "that is not it .")  # before the answer that mends it
EVASIONS: tuple[str, ...] = ("i do not know .", "hard to say .")
REFUSALS: tuple[str, ...] = ("please do not push me .", "not now , thanks .")
DOUBTS: tuple[str, ...] = ("will it last ?", "is it any good ?")
THOUGHTS: tuple[str, ...] = ("let me think .", "i am not sure yet .")
NODS: tuple[str, ...] = ("thanks .", "that is kind .")
SHRUGS: tuple[str, ...] = ("can we go on ?", "that does not help me .")
PUZZLED = "sorry ?"
BOUGHT: tuple[str, ...] = ("i take it .", "sold , thank you .")
FAREWELLS: tuple[str, ...] = ("i have to go , bye .", "no thanks , bye .")
