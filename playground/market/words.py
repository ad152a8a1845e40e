"""The words a generated market is made of."""

CATEGORIES = {
    "climate": ("carbon accounting", "batteries", "heat pumps"),
    "education": ("tutoring", "language learning", "school software"),
    "finance": ("payments", "lending", "bookkeeping"),
    "food": ("restaurant software", "farm supply", "meal delivery"),
    "games": ("mobile games", "game engines", "esports"),
    "health": ("telemedicine", "clinical trials", "diagnostics"),
    "housing": ("rentals", "renovation", "property records"),
    "logistics": ("last mile", "warehousing", "freight"),
    "media": ("podcasts", "video tools", "newsletters"),
    "robotics": ("drones", "factory arms", "inspection"),
    "security": ("identity", "threat detection", "compliance"),
    "work": ("hiring", "scheduling", "remote teams"),
}
"""Fields by category."""

TAGS = {
    "climate": ("net-zero", "hardware", "b2b"),
    "education": ("parents", "mobile", "community"),
    "finance": ("api", "regulated", "b2b"),
    "food": ("local", "marketplace-side", "mobile"),
    "games": ("community", "mobile", "3d"),
    "health": ("regulated", "science", "privacy"),
    "housing": ("local", "marketplace-side", "records"),
    "logistics": ("hardware", "optimisation", "b2b"),
    "media": ("creators", "community", "ai"),
    "robotics": ("hardware", "ai", "3d"),
    "security": ("privacy", "api", "ai"),
    "work": ("remote-first", "b2b", "ai"),
}
"""Tags by category."""

TYPES = ("product", "platform", "marketplace", "service", "research")
STAGES = ("idea", "pre-seed", "seed", "series-a", "growth")
COUNTRIES = ("USA", "GBR", "DEU", "FRA", "IND", "BRA", "SWE", "KEN")
SKILLS = (
    "backend", "frontend", "mobile", "data", "machine-learning", "embedded", "infrastructure", "security",
    "design", "graphics", "quality", "product",
)  # fmt: skip
DEVELOPER_ROLES = ("backend", "frontend", "full-stack", "data", "mobile", "platform", "embedded", "lead")
INVESTOR_ROLES = ("angel", "seed-fund", "venture-fund", "corporate", "family-office")

FIRST = (
    "Ada", "Bela", "Chidi", "Dana", "Emre", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mira",
    "Nils", "Omar", "Pia", "Quinn", "Rosa", "Sami", "Tove", "Uma", "Vera", "Wim", "Yara", "Zoe",
)  # fmt: skip
LAST = (
    "Abara", "Berg", "Castro", "Dietz", "Eklund", "Fofana", "Gupta", "Hale", "Ito", "Jansen", "Kaya", "Lund",
    "Moreau", "Novak", "Okoye", "Patel", "Quist", "Rossi", "Silva", "Tanaka",
)  # fmt: skip
BRANDS = (
    "Alder", "Bright", "Cinder", "Delta", "Ember", "Fathom", "Grove", "Harbor", "Iris", "Juniper", "Kestrel",
    "Lumen", "Meadow", "Nimbus", "Orbit", "Pebble", "Quill", "Ridge", "Summit", "Tidal", "Umber", "Vela",
    "Willow", "Yarrow", "Zephyr",
)  # fmt: skip
ENDINGS = ("works", "base", "loop", "stack", "wise", "line", "field", "mark", "path", "port")
