"""Act 2: an Optuna study per decay family.

`search` asks and tells one `FamilyStudy` a family, `shares` says how many trials each gets, and
`second_looks` which of them are trained on other seeds.

    storages     Optuna's storages: how they are opened, what is written there and read back
"""
