"""mbexec on Dask: the plugin is in :mod:`mbexec_dask.executor`; processes that run fragments do without Dask."""
