//! Names that models hold by themselves: classes in lower case or in modules of which the others do harm,
//! and functions of numbers that a model keeps for its user to call.
//!
//! Sorted; a test holds both to that.

/// A module, and names in it.
pub(crate) type Names = (&'static str, &'static [&'static str]);

/// Classes. They count as those of [`super::classes`].
pub(crate) static LONE_CLASSES: &[Names] = &[
    (
        "catboost.core",
        &[
            "CatBoost",
            "CatBoostClassifier",
            "CatBoostRanker",
            "CatBoostRegressor",
        ],
    ),
    ("lightgbm.basic", &["Booster"]),
    ("numpy", &["finfo"]),
    ("numpy.core.getlimits", &["finfo"]),
    ("scipy.interpolate._interpolate", &["interp1d"]),
    ("scipy.sparse._bsr", &["bsr_array", "bsr_matrix"]),
    ("scipy.sparse._dia", &["dia_array", "dia_matrix"]),
    ("scipy.sparse._dok", &["dok_array"]),
    ("scipy.sparse._lil", &["lil_array"]),
    ("scipy.spatial._ckdtree", &["cKDTree"]),
    ("scipy.spatial.ckdtree", &["cKDTree"]),
    (
        "scipy.stats._distn_infrastructure",
        &["rv_continuous_frozen", "rv_discrete_frozen", "rv_frozen"],
    ),
    ("scipy.stats._kde", &["gaussian_kde"]),
    (
        "sklearn.compose._column_transformer",
        &["make_column_selector"],
    ),
    ("xgboost.core", &["Booster"]),
];

/// Functions of numbers and arrays. Nobody calls them while a model is loaded.
pub(crate) static KEPT: &[Names] = &[
    ("bitsandbytes.nn.modules", &["maybe_rearrange_weight"]),
    (
        "numpy",
        &[
            "abs",
            "absolute",
            "add",
            "arccos",
            "arcsin",
            "arcsinh",
            "arctan",
            "arctanh",
            "asarray",
            "cbrt",
            "ceil",
            "clip",
            "cos",
            "cosh",
            "divide",
            "exp",
            "exp2",
            "expm1",
            "floor",
            "log",
            "log10",
            "log1p",
            "log2",
            "max",
            "maximum",
            "mean",
            "median",
            "min",
            "minimum",
            "multiply",
            "nan_to_num",
            "nanmax",
            "nanmean",
            "nanmedian",
            "nanmin",
            "nansum",
            "negative",
            "power",
            "prod",
            "ravel",
            "reciprocal",
            "reshape",
            "rint",
            "round",
            "sign",
            "sin",
            "sinh",
            "sqrt",
            "square",
            "squeeze",
            "std",
            "subtract",
            "sum",
            "tan",
            "tanh",
            "var",
        ],
    ),
    ("scipy._lib.array_api_compat.numpy._aliases", &["asarray"]),
    (
        "scipy.interpolate._interpolate",
        &[
            "interp1d._call_linear",
            "interp1d._call_linear_np",
            "interp1d._call_nan_spline",
            "interp1d._call_nearest",
            "interp1d._call_previousnext",
            "interp1d._call_spline",
        ],
    ),
    (
        "scipy.special",
        &["erf", "erfc", "expit", "gamma", "logit", "softmax"],
    ),
    (
        "scipy.special._ufuncs",
        &["erf", "erfc", "expit", "gamma", "logit"],
    ),
    (
        "sklearn.cluster._kmeans",
        &["_kmeans_single_elkan", "_kmeans_single_lloyd"],
    ),
    (
        "sklearn.feature_selection._mutual_info",
        &["mutual_info_classif", "mutual_info_regression"],
    ),
    (
        "sklearn.feature_selection._univariate_selection",
        &[
            "chi2",
            "f_classif",
            "f_oneway",
            "f_regression",
            "r_regression",
        ],
    ),
    (
        "sklearn.metrics._classification",
        &[
            "accuracy_score",
            "balanced_accuracy_score",
            "f1_score",
            "fbeta_score",
            "log_loss",
            "matthews_corrcoef",
            "precision_score",
            "recall_score",
        ],
    ),
    (
        "sklearn.metrics._ranking",
        &["average_precision_score", "roc_auc_score"],
    ),
    (
        "sklearn.metrics._regression",
        &[
            "explained_variance_score",
            "max_error",
            "mean_absolute_error",
            "mean_absolute_percentage_error",
            "mean_squared_error",
            "mean_squared_log_error",
            "median_absolute_error",
            "r2_score",
            "root_mean_squared_error",
        ],
    ),
    (
        "sklearn.metrics.pairwise",
        &[
            "cosine_similarity",
            "euclidean_distances",
            "laplacian_kernel",
            "linear_kernel",
            "polynomial_kernel",
            "rbf_kernel",
            "sigmoid_kernel",
        ],
    ),
];

/// Whether a table has a name of a module.
pub(crate) fn has(table: &[Names], module: &str, name: &str) -> bool {
    let at = table.binary_search_by(|(known, _)| (*known).cmp(module));
    let names = at.ok().and_then(|at| table.get(at));
    names.is_some_and(|(_, names)| names.binary_search(&name).is_ok())
}
