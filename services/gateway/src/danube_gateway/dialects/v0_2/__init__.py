"""The ``danube.*`` services of Danube v0.2, with message ids in layout A."""
