"""Facts about Mexico's 32 states: ISO 3166-2 codes, names, ways to write them, time zones. No code lives here.

Sources: ISO 3166-2:MX; INEGI's names; RENAPO's two-letter codes; abbreviations of the regulator's numbering files;
the law of time zones of 2022-10-28.
"""

from __future__ import annotations

from typing import Final

# code: (name in use, time zone of most municipalities, other ways to write it: case, accents and dots do not count)
STATES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "AGU": ("Aguascalientes", "America/Mexico_City", ("AGS", "AGUASC", "AS", "AGUAS CALIENTES")),
    "BCN": ("Baja California", "America/Tijuana", ("BC", "B CALIFORNIA", "B CFA", "BAJA CALIFORNIA NORTE", "BAJA CALIF",
            "BAJA CALIF NORTE", "BAJA CAL", "BAJA CFA", "BAJA CALIFORNIA NTE", "BAJA NORTE", "BAJA CALIFORNIA N")),
    "BCS": ("Baja California Sur", "America/Mazatlan", ("BS", "B CALIFORNIA SUR", "BAJA CALIF SUR", "BAJA CAL SUR",
            "B CFA SUR", "BAJA SUR", "BAJA CALIFORNIA S")),
    "CAM": ("Campeche", "America/Mexico_City", ("CAMP", "CC", "CAMPECH")),
    "CHP": ("Chiapas", "America/Mexico_City", ("CHIS", "CS", "CHPS")),
    "CHH": ("Chihuahua", "America/Chihuahua", ("CHIH", "CH", "CHIHUAUA", "CHIUAHUA")),
    "CMX": ("Ciudad de México", "America/Mexico_City", ("CDMX", "CD MX", "DF", "DISTR", "DISTR FED", "DISTRITO FEDERAL",
            "DTO FEDERAL", "DTO FED", "MEXICO DF", "MEXICO D F", "CD DE MEXICO", "CD MEXICO", "CIUDAD MEXICO",
            "DISTRITO FEDERAL MEXICO", "CIUDAD DE MEXICO DF", "MEXICO CITY", "MEXICO CDMX", "MX DF")),
    "COA": ("Coahuila", "America/Mexico_City", ("COAH", "CL", "COAHUILA DE ZARAGOZA", "COAHULIA")),
    "COL": ("Colima", "America/Mexico_City", ("CM", "COLIM")),
    "DUR": ("Durango", "America/Mexico_City", ("DGO", "DG", "DURANG")),
    "GUA": ("Guanajuato", "America/Mexico_City", ("GTO", "GT", "GUANAJ", "GUANAJUATO GTO", "GJTO")),
    "GRO": ("Guerrero", "America/Mexico_City", ("GR", "GUERR", "GUE")),
    "HID": ("Hidalgo", "America/Mexico_City", ("HGO", "HG", "HIDAL")),
    "JAL": ("Jalisco", "America/Mexico_City", ("JC", "JALIS", "JALISC")),
    "MEX": ("Estado de México", "America/Mexico_City", ("MEXICO", "EDO MEX", "EDOMEX", "EDO DE MEX", "EDO DE MEXICO",
            "EDO MEXICO", "ESTADO MEXICO", "EST DE MEXICO", "EST MEX", "MC", "EM", "EDOMEXICO", "EDO MX", "EDO DE MX",
            "ESTADO DE MEX", "ESTADO DE MEXICO MEX")),
    "MIC": ("Michoacán", "America/Mexico_City", ("MICH", "MN", "MICHOACAN DE OCAMPO", "MICHOAC", "MICHOCAN")),
    "MOR": ("Morelos", "America/Mexico_City", ("MS", "MOREL", "MORELO")),
    "NAY": ("Nayarit", "America/Mazatlan", ("NT", "NAYAR", "NAYARI")),
    "NLE": ("Nuevo León", "America/Mexico_City", ("NL", "NVO LEON", "N LEON", "NUEVO L", "NVO L")),
    "OAX": ("Oaxaca", "America/Mexico_City", ("OC", "OAXACA DE JUAREZ", "OAXAC")),
    "PUE": ("Puebla", "America/Mexico_City", ("PL", "PUEB", "PBLA")),
    "QUE": ("Querétaro", "America/Mexico_City", ("QRO", "QT", "QUER", "QUERETARO DE ARTEAGA", "QUERETARO ARTEAGA")),
    "ROO": ("Quintana Roo", "America/Cancun", ("QROO", "Q ROO", "QR", "QUINTANA R", "QTANA ROO", "QNTANA ROO",
            "QUINTANAROO", "Q R")),
    "SLP": ("San Luis Potosí", "America/Mexico_City", ("SP", "S L POTOSI", "SAN LUIS", "SAN LUIS P", "SN LUIS POTOSI",
            "S LUIS POTOSI")),
    "SIN": ("Sinaloa", "America/Mazatlan", ("SL", "SINAL", "SINA")),
    "SON": ("Sonora", "America/Hermosillo", ("SR", "SONOR", "SNR")),
    "TAB": ("Tabasco", "America/Mexico_City", ("TC", "TABAS", "TABASC")),
    "TAM": ("Tamaulipas", "America/Mexico_City", ("TAMPS", "TS", "TAMAU", "TAMP", "TMPS")),
    "TLA": ("Tlaxcala", "America/Mexico_City", ("TLAX", "TL", "TLAXC")),
    "VER": ("Veracruz", "America/Mexico_City", ("VZ", "VERAC", "VERACRUZ DE IGNACIO DE LA LLAVE", "VERACRUZ LLAVE",
            "VERACRUZ-LLAVE", "VERACRUZ DE I DE LA LLAVE", "VERACRUZ IGNACIO DE LA LLAVE")),
    "YUC": ("Yucatán", "America/Mexico_City", ("YN", "YUCAT", "YUCA")),
    "ZAC": ("Zacatecas", "America/Mexico_City", ("ZS", "ZACAT", "ZACATECA")),
}  # fmt: skip

# States whose municipalities do not all keep one time; the table of municipalities covers these.
STATES_OF_MANY_ZONES: Final = frozenset({"CHH", "COA", "NAY", "NLE", "TAM"})

# Other names of municipalities (or their seats) in those states, as keys: letters only, upper case.
MUNICIPALITY_ALIASES: Final[dict[tuple[str, str], str]] = {
    ("CHH", "PORFIRIOPARRA"): "GUADALUPE",
    ("CHH", "PARRAL"): "HIDALGODELPARRAL",
    ("COA", "CIUDADACUNA"): "ACUNA",
    ("COA", "CUATROCIENEGASDECARRANZA"): "CUATROCIENEGAS",
    ("COA", "PARRASDELAFUENTE"): "PARRAS",
    ("COA", "MELCHORMUZQUIZ"): "MUZQUIZ",
    ("NAY", "BUCERIAS"): "BAHIADEBANDERAS",
    ("NAY", "NUEVOVALLARTA"): "BAHIADEBANDERAS",
    ("NAY", "NUEVONAYARIT"): "BAHIADEBANDERAS",
    ("NAY", "VALLEDEBANDERAS"): "BAHIADEBANDERAS",
    ("NAY", "SAYULITA"): "BAHIADEBANDERAS",
    ("NLE", "COLOMBIA"): "ANAHUAC",
    ("NLE", "SANNICOLAS"): "SANNICOLASDELOSGARZA",
    ("NLE", "SANPEDRO"): "SANPEDROGARZAGARCIA",
    ("TAM", "NUEVACIUDADGUERRERO"): "GUERRERO",
    ("TAM", "MANTE"): "ELMANTE",
    ("TAM", "MADERO"): "CIUDADMADERO",
}
