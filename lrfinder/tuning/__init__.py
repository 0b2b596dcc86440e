"""Act 2: an Optuna study per decay family.

`search` asks and tells one `FamilyStudy` a family, and `shares` says how many trials each gets.

    storages     Optuna's storages: how they are named and opened, and what is read back
"""
