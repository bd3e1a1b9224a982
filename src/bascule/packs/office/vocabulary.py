"""Words that a splitter of sentences and a summary must know, of English and of Vietnamese. Pure."""

from typing import Final

# A full stop after one of these ends no sentence.
_TITLES: Final = """
mr mrs ms dr prof rev gen col sgt capt sr jr st mt vs cf e.g i.e viz hon
tp th ths ts pgs gs bs ks ls cn tx đ vd tr cty nxb stt sđt đt
"""
# Nor does one between one of these and a number.
_BEFORE_NUMBERS: Final = """
no nos fig figs eq sec ch vol p pp art par approx ca est jan feb mar apr jun jul aug sep sept oct nov dec tt
"""
# Words of which every text is full, whatever it is about.
_ENGLISH: Final = """
a an the and or but if of to in on at by for from with as is are was were be been has have had not no it its this
that these those which who whom will would can could should may might must do does did we they he she you i our
their his her your than then there here so such into over under about between after before during while also more
most other some any each all both very just only own same too per via up down out off
"""
_VIETNAMESE: Final = """
và của là các có được cho trong với không những này đó khi để từ một đã sẽ cũng như về tại theo trên đến vào ra thì
mà nên hay hoặc nếu do vì bởi ở bị đang còn rất nhiều ít hơn nhất tất cả mỗi mọi sau trước giữa dưới ngoài lại nữa
nhưng tuy vẫn chỉ cần phải việc sự cùng qua bằng rằng thế đây kia nào gì ai chúng tôi ta họ nó cái con người ông bà
anh chị năm ngày tháng
"""

TITLES: Final = frozenset(_TITLES.split())
BEFORE_NUMBERS: Final = frozenset(_BEFORE_NUMBERS.split())
ENGLISH: Final = frozenset(_ENGLISH.split())
VIETNAMESE: Final = frozenset(_VIETNAMESE.split())
STOPWORDS: Final = ENGLISH | VIETNAMESE
