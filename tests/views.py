"""Analyses of a view, asked for in one go."""


def analysed(analysis, store, *given, site="resid_post", layers="all", where=None, **choices):
    """What an analysis gives for the view of a store that is asked for, and further arguments."""
    return analysis(store.view(site, layers, where), *given, **choices)


def arrays_of(result):
    """A result's arrays by name, its counts left out: their axes, and their values."""
    arrays = {str(name): one for name, one in result.dataset.data_vars.items() if one.dims}
    return {name: (tuple(map(str, one.dims)), one.to_numpy()) for name, one in arrays.items()}
