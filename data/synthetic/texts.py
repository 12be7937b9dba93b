"""What synthetic people say: proverbs and plain sentences, and shufflings of their words, in the voices' languages."""

from __future__ import annotations

from util.seed import generator_for

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The early bird catches the worm, but the second mouse gets the cheese.",
        "Peter bought five big boats and a pair of brown boots before breakfast.",
        "We have never thought about moving to another town by the sea.",
        "Many hands make light work, and too many cooks spoil the broth.",
        "My mother always told me to measure twice and cut once.",
        "She showed us a photograph of the bridge over the frozen river.",
        "You can lead a horse to water, but you cannot make him drink.",
        "I would rather wait for the first bus than walk through the rain.",
        "Nobody knows why the village church has two different clocks.",
        "The judge asked a few questions about the missing yellow jewel.",
        "Every cloud has a silver lining, so do not give up hope.",
        "Good morning, could you please tell me where the museum is?",
        "People who live in glass houses should not throw stones.",
        "Maybe we should open the window, it is very warm in here.",
        "A rolling stone gathers no moss, as my uncle used to say.",
        "What do you think about the new programme for the summer?",
        "The children laughed and jumped from one puddle into the other.",
        "Half a loaf is better than none, however old the bread may be.",
        "Our team won the match by five points, which surprised everyone.",
        "He put the paper bag on the table and began to whistle.",
        "All that glitters is not gold, and all who wander are not lost.",
        "I believe that both of them were right, at least in part.",
        "Actions speak louder than words, and silence speaks loudest of all.",
        "The weather will improve on Thursday, with sunshine above the valleys.",
        "Thank you very much for coming, we are happy to have you with us.",
        "Have you ever watched the moon rise behind a wooden fence?",
        "My father bakes apple pies and fresh white bread for the whole street.",
        "It took years of hard work to build this beautiful garden.",
        "When the cat is away, the mice will play above the kitchen.",
        "Rome was not built in a day, nor was my grandfather's boat.",
    ),
    "it": (
        "Chi va piano va sano e va lontano.",
        "La verità viene sempre a galla, prima o poi.",
        "Mio fratello abita in una piccola casa vicino al ponte.",
        "Tra il dire e il fare c'è di mezzo il mare.",
        "Buongiorno a tutti, oggi parliamo del tempo e della famiglia.",
        "Non è tutto oro quello che luccica.",
        "Il lupo perde il pelo ma non il vizio.",
        "Domani mattina vogliamo andare al mercato a comprare pomodori e pane.",
        "Una mano lava l'altra, e tutte e due lavano il viso.",
        "Abbiamo bevuto un buon bicchiere di vino con gli amici di Bologna.",
    ),
    "cs": (
        "Bez práce nejsou koláče.",
        "Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "Kdo jinému jámu kopá, sám do ní padá.",
        "Moje babička bydlí v malém domě u velké řeky.",
        "Ranní ptáče dál doskáče, ale večer bývá unavené.",
        "Dobrý den, prosím vás, kde je tady most?",
        "Mluviti stříbro, mlčeti zlato.",
        "Včera večer jsme pozvali přátele na pivo a na hudbu.",
        "Jak se do lesa volá, tak se z lesa ozývá.",
        "Můj bratr fotografuje ptáky, motýly a veverky.",
    ),
    "fi": (
        "Oma maa mansikka, muu maa mustikka.",
        "Hyvää päivää, mitä teille kuuluu tänään?",
        "Ei oppi ojaan kaada, eikä tieto tieltä työnnä.",
        "Veljeni ostaa huomenna punaisen polkupyörän ja uuden laukun.",
        "Vahinko ei tule kello kaulassa.",
        "Meidän mökki on pienen järven rannalla, lähellä metsää.",
        "Parempi myöhään kuin ei milloinkaan.",
        "Äiti paistaa pullaa ja isä lämmittää saunaa.",
        "Moni kakku päältä kaunis, vaan on silkkoa sisältä.",
        "Eilen satoi vettä, mutta tänään aurinko paistaa.",
    ),
    "ru": (
        "Тише едешь, дальше будешь.",
        "Без труда не вытащишь и рыбку из пруда.",
        "Мой брат купил большую лодку и поплыл по реке.",
        "Утро вечера мудренее.",
        "Добрый день, меня зовут Павел, я живу в Москве.",
        "Семь раз отмерь, один раз отрежь.",
        "Бабушка всегда говорила, что молчание золото.",
        "Завтра мы пойдём в музей, а потом будем пить чай.",
        "Не имей сто рублей, а имей сто друзей.",
        "Весной в нашем саду поют птицы и цветут вишни.",
    ),
    "hi": (
        "जल ही जीवन है।",
        "मेहनत का फल मीठा होता है।",
        "मेरा भाई बाज़ार से आम और केले लाया।",
        "बूँद बूँद से सागर भरता है।",
        "आज मौसम बहुत अच्छा है, चलो बाहर चलें।",
        "जैसा बोओगे वैसा काटोगे।",
        "हम सब मिलकर पुराना गाना गाएँगे।",
        "एकता में बल है।",
    ),
    "mr": (
        "पाणी हेच जीवन आहे।",
        "एकी हेच बळ।",
        "माझा भाऊ बाजारातून आंबे आणि केळी घेऊन आला।",
        "थेंबे थेंबे तळे साचे।",
        "आज हवा खूप छान आहे।",
        "आम्ही उद्या सकाळी गावाला जाणार आहोत।",
        "प्रयत्नांती परमेश्वर।",
    ),
    "te": (
        "నీరు జీవనాధారం।",
        "ఐకమత్యమే మహాబలం।",
        "మా అన్న బజారు నుండి మామిడి పండ్లు తెచ్చాడు।",
        "ఈ రోజు వాతావరణం చాలా బాగుంది।",
        "రేపు ఉదయం మేము ఊరికి వెళతాము।",
        "కష్టే ఫలి।",
        "అమ్మ చెప్పిన మాట వినాలి।",
    ),
    "ca": (
        "Qui no arrisca no pisca.",
        "El meu germà viu en una casa petita prop del riu.",
        "Qui matina fa farina, però qui dorm també somia.",
        "Bon dia a tothom, avui parlarem del temps i de la feina.",
        "No és or tot el que brilla.",
        "Demà anirem al mercat a comprar pa, pomes i formatge.",
        "De mica en mica s'omple la pica.",
        "La mare canta una cançó vella mentre bull l'aigua.",
    ),
    "de": (
        "Übung macht den Meister, aber aller Anfang ist schwer.",
        "Mein Bruder wohnt in einem kleinen Haus am Fluss.",
        "Morgenstund hat Gold im Mund.",
        "Wir möchten am Freitag mit dem Boot über den Bodensee fahren.",
        "Wer andern eine Grube gräbt, fällt selbst hinein.",
        "Guten Abend, meine Damen und Herren, schön, dass Sie da sind.",
        "Der Apfel fällt nicht weit vom Stamm.",
        "Fünf fröhliche Bäcker backen frisches Brot für das ganze Dorf.",
        "Viele Köche verderben den Brei.",
        "Gestern hat es geregnet, heute scheint wieder die Sonne.",
    ),
    "fr": (
        "Petit à petit, l'oiseau fait son nid.",
        "Mon frère habite une petite maison au bord du fleuve.",
        "Qui vivra verra, mais rien ne sert de courir.",
        "Bonjour à tous, aujourd'hui nous parlons de la pluie et du beau temps.",
        "Mieux vaut tard que jamais.",
        "Demain matin, nous voulons acheter du pain, du beurre et des pommes.",
        "Tout est bien qui finit bien.",
        "La jeune femme a ouvert la fenêtre pour voir la lune.",
    ),
    "es": (
        "Más vale pájaro en mano que ciento volando.",
        "Mi hermano vive en una casa pequeña cerca del puente.",
        "A quien madruga, Dios le ayuda.",
        "Buenos días a todos, hoy vamos a hablar del tiempo y de la familia.",
        "No es oro todo lo que reluce.",
        "Mañana queremos comprar pan, vino blanco y manzanas en el mercado.",
        "Poco a poco se va lejos.",
        "La abuela siempre decía que el silencio vale mucho.",
    ),
    "pt": (
        "Água mole em pedra dura, tanto bate até que fura.",
        "O meu irmão mora numa casa pequena perto da ponte.",
        "Devagar se vai ao longe.",
        "Bom dia a todos, hoje vamos falar do tempo e da família.",
        "Nem tudo o que brilha é ouro.",
        "Amanhã queremos comprar pão, vinho branco e maçãs no mercado.",
        "Quem espera sempre alcança.",
    ),
    "pl": (
        "Bez pracy nie ma kołaczy.",
        "Mój brat mieszka w małym domu nad wielką rzeką.",
        "Gdzie kucharek sześć, tam nie ma co jeść.",
        "Dzień dobry państwu, dzisiaj porozmawiamy o pogodzie.",
        "Nie wszystko złoto, co się świeci.",
        "Jutro rano pójdziemy na targ kupić chleb, masło i jabłka.",
        "Mowa jest srebrem, a milczenie złotem.",
    ),
    "nl": (
        "De appel valt niet ver van de boom.",
        "Mijn broer woont in een klein huis aan de rivier.",
        "Oefening baart kunst, maar alle begin is moeilijk.",
        "Goedemorgen allemaal, vandaag praten we over het weer.",
        "Het is niet alles goud wat er blinkt.",
        "Morgen willen we op de markt brood, boter en appels kopen.",
        "Wie goed doet, goed ontmoet.",
    ),
    "tr": (
        "Damlaya damlaya göl olur.",
        "Kardeşim nehrin yanında küçük bir evde oturuyor.",
        "Sakla samanı, gelir zamanı.",
        "Günaydın, bugün hava çok güzel, dışarı çıkalım.",
        "Ağaç yaşken eğilir.",
        "Yarın sabah pazara gidip ekmek, peynir ve elma alacağız.",
        "Bir elin nesi var, iki elin sesi var.",
    ),
}
HELD_OUT_EVERY = 5  # every fifth sentence of a language is for held-out people only
_SHUFFLED = 0.5  # share of sentences made of words that were drawn


def make_text(seed: int, language: str, num_words: int, held_out: bool) -> str:
    """Sentences of a language, at least `num_words` words: some as they stand, some of words in any order.

    held_out: draws from the sentences that training never hears, and only from them.
    """
    rng = generator_for(seed, 211)
    pool = [s for n, s in enumerate(SENTENCES[language]) if (n % HELD_OUT_EVERY == HELD_OUT_EVERY - 1) == held_out]
    words = [word.strip(".,?!।").lower() for sentence in pool for word in sentence.split()]
    text: list[str] = []
    while len(text) < num_words:
        if rng.random() < _SHUFFLED:
            drawn = [str(word) for word in rng.choice(words, int(rng.integers(4, 11)))]
            if len(drawn) > 6 and rng.random() < 0.6:
                drawn[len(drawn) // 2] += ","
            text += [*drawn[:-1], f"{drawn[-1]}."]
        else:
            text += pool[rng.integers(len(pool))].split()
    return " ".join(text)
