/* Every option of every subcommand: one table behind command line, config file and --help. */
#include "core/search/searcher.h"
#include "tools/command.h"

#include <math.h>
#include <stdbool.h>

#define GENERAL "general"
#define DEVICE "where it runs"
#define DATA "data"
#define MODEL "model and bits"
#define TRAINING "training"
#define PROGRESSIVE "progressive quantisation"
#define AVERAGING "averaging of models (sqwa)"
#define DISTILLATION "distillation"
#define SEARCH "search without gradients"
#define ALLOCATION "bits of each layer (gradfreebits)"
#define SETTINGS "search over settings (search: in a recipe)"
#define RUN "run"
#define SURFACES "loss surfaces"
#define MEASUREMENT "measurement"

#define RUNS "train eval"
#define ALL_RUNS RUNS " bench"
#define EVALUATIONS ALL_RUNS " report"
#define BY_GRADIENTS "qat progressive sqwa gradfreebits"

/* clang-format off */
const qe_option qe_option_table[] = {
    {.name = "config", .letter = 'c', .type = QE_OPTION_PATH, .metavar = "FILE", .group = GENERAL, .transient = true,
     .help = "options from a YAML file; the command line wins over it"},
    {.name = "set", .letter = 's', .type = QE_OPTION_TEXT, .metavar = "NAME=VALUE", .group = GENERAL, .transient = true,
     .help = "set an option by name, as in a config file; may be given often; of a pipeline also STEP.NAME=VALUE, by the step's name or number"},
    {.name = "json", .type = QE_OPTION_FLAG, .group = GENERAL, .transient = true, .also = "format",
     .help = "print the result as JSON on stdout, and nothing else"},

    {.name = "backend", .letter = 'b', .type = QE_OPTION_TEXT, .initial = "auto", .metavar = "NAME", .group = DEVICE, .commands = EVALUATIONS, .also = "gpu|cuda|opencl|accelerator",
     .help = "backend, as 'qevo-gpu devices' lists them; auto: the fastest usable one; bench: several with commas between, or all"},
    {.name = "device", .type = QE_OPTION_TEXT, .initial = "0", .metavar = "DEVICE", .group = DEVICE, .commands = EVALUATIONS,
     .help = "number of the backend's device, or part of its name"},
    {.name = "threads", .type = QE_OPTION_INT, .initial = "0", .range = {0, 4096}, .group = DEVICE, .commands = EVALUATIONS, .also = "cpus|jobs",
     .help = "threads on the CPU; 0: all cores"},
    {.name = "precision", .type = QE_OPTION_CHOICE, .initial = "fp32", .words = "fp32|tf32|bf16", .group = DEVICE, .commands = EVALUATIONS, .also = "amp|fp16|tf32|bf16",
     .help = "of float convolutions and matrix products; tf32 needs the backend cuda with cuDNN; bf16 that, or cpu (convolutions only) on a processor with AVX512_BF16"},
    {.name = "explain", .type = QE_OPTION_FLAG, .group = DEVICE, .commands = ALL_RUNS, .transient = true,
     .help = "say on stderr which implementation each operation takes"},

    {.name = "data", .letter = 'd', .type = QE_OPTION_TEXT, .initial = "cifar10", .metavar = "NAME", .group = DATA, .commands = EVALUATIONS, .also = "dataset",
     .help = "data set; folder:PATH for JPEG and PNG files: PATH has train and val in it, with a folder for each class or tar shards"},
    {.name = "data-dir", .type = QE_OPTION_PATH, .metavar = "FOLDER", .group = DATA, .commands = EVALUATIONS " data", .also = "data-path|data-root",
     .help = "where it lies; else $QEVO_DATA_DIR, ~/.cache/qevo-gpu, then the subset built in"},
    {.name = "url", .type = QE_OPTION_TEXT, .metavar = "URL", .group = DATA, .commands = "data", .transient = true,
     .help = "data get: where the files lie instead of the usual places: a folder on a server or on this machine; else $QEVO_DATA_MIRROR/NAME"},
    {.name = "force", .type = QE_OPTION_FLAG, .group = DATA, .commands = "data", .transient = true,
     .help = "data get: get it again although it is there"},
    {.name = "check", .type = QE_OPTION_FLAG, .group = DATA, .commands = "data", .transient = true,
     .help = "data info: decode every image of a folder, and name those that cannot be read"},
    {.name = "image-size", .type = QE_OPTION_INT, .initial = "224", .range = {1, 4096}, .group = DATA, .commands = EVALUATIONS,
     .help = "folder: side of the square that images are brought to; eval: the model's unless given"},
    {.name = "resize", .type = QE_OPTION_INT, .initial = "0", .range = {0, 8192}, .group = DATA, .commands = EVALUATIONS,
     .help = "folder: shorter side of an image before its middle is taken; 0: 256 for 224, in proportion; up to 64 pixels the image size"},
    {.name = "crop-area", .type = QE_OPTION_REAL, .initial = "0.08", .range = {0.0001, 1}, .group = DATA, .commands = "train bench",
     .help = "folder: least part of a training image that its random-resized crop takes; 1: no such crop, the middle"},
    {.name = "data-memory", .type = QE_OPTION_INT, .initial = "4096", .range = {1, 16777216}, .metavar = "MIB", .group = DATA, .commands = "train",
     .help = "folder: most that images take when they are held in memory, as with --crop-area 1 and in searches"},
    {.name = "loader-threads", .type = QE_OPTION_INT, .initial = "0", .range = {0, 256}, .group = DATA, .commands = EVALUATIONS " data", .transient = true, .also = "workers|num-workers",
     .help = "folder: threads that decode images; 0: one for each core"},
    {.name = "prefetch", .type = QE_OPTION_INT, .initial = "3", .range = {1, 64}, .metavar = "BATCHES", .group = DATA, .commands = EVALUATIONS, .transient = true,
     .help = "folder: batches prepared ahead"},
    {.name = "batch", .type = QE_OPTION_INT, .initial = "128", .range = {1, 65536}, .group = DATA, .commands = EVALUATIONS, .also = "batch-size|bs",
     .help = "images a step; bench conv: images a run, 256 unless given"},
    {.name = "held-out", .type = QE_OPTION_INT, .initial = "0", .range = {0, 10000000}, .group = DATA, .commands = "train", .also = "validation|val-split",
     .help = "training images kept back for validation, which then chooses the best model"},
    {.name = "pad", .type = QE_OPTION_INT, .initial = "4", .range = {0, 64}, .group = DATA, .commands = "train bench",
     .help = "augmentation: pixels of padding for the random crop; 0: no crop; with random-resized crops 0 unless given"},
    {.name = "flip", .type = QE_OPTION_FLAG, .initial = "true", .group = DATA, .commands = "train bench", .also = "hflip|mirror",
     .help = "augmentation: mirror half of the images"},
    {.name = "cutout", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1024}, .metavar = "SIDE", .group = DATA, .commands = "train bench",
     .help = "augmentation: blank a square of so many pixels' side, anywhere; 0: off"},
    {.name = "brightness", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 1}, .group = DATA, .commands = "train bench",
     .help = "augmentation: colours scaled by 1 - this … 1 + this"},
    {.name = "contrast", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 1}, .group = DATA, .commands = "train bench",
     .help = "augmentation: the same for what differs from the image's mean"},
    {.name = "saturation", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 1}, .group = DATA, .commands = "train bench",
     .help = "augmentation: the same for what differs from the pixel's grey"},
    {.name = "mixup", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 16}, .metavar = "ALPHA", .group = DATA, .commands = "train bench",
     .help = "augmentation: mix images and labels in pairs, by shares from Beta(alpha, alpha); 0: off"},

    {.name = "model", .letter = 'm', .type = QE_OPTION_TEXT, .initial = "resnet20", .metavar = "NAME", .group = MODEL, .commands = "train bench", .also = "arch|architecture|net|network",
     .help = "network of the model zoo; or a file that describes one, FILE.net, as --dump writes it"},
    {.name = "shortcut", .type = QE_OPTION_CHOICE, .initial = "auto", .words = "auto|A|B", .group = MODEL, .commands = "train",
     .help = "residual networks where the shape changes: A subsamples and adds zero channels, B is a 1x1 convolution; auto: as published"},
    {.name = "weight-bits", .letter = 'w', .type = QE_OPTION_INT, .initial = "4", .range = {1, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train bench", .also = "bits|w-bits|wbits",
     .help = "bits of a weight; 32: float"},
    {.name = "act-bits", .letter = 'a', .type = QE_OPTION_INT, .initial = "4", .range = {1, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train bench", .also = "a-bits|abits|activation-bits",
     .help = "bits of an activation; 32: float"},
    {.name = "first-last-bits", .type = QE_OPTION_INT, .initial = "8", .range = {0, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train",
     .help = "bits of the first and the last layer; 0: as the others"},
    {.name = "residual-bits", .type = QE_OPTION_INT, .initial = "8", .range = {1, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train",
     .help = "bits of the codes on a skip connection"},
    {.name = "layer-bits", .type = QE_OPTION_TEXT, .initial = "", .metavar = "LAYER=wNaN,…", .group = MODEL, .commands = "train",
     .help = "bits of single layers, as in stage1.0.conv1=w3a4,fc=w8"},
    {.name = "bits-file", .type = QE_OPTION_PATH, .metavar = "FILE", .group = MODEL, .commands = "train",
     .help = "bits of layers from a file with lines such as 'stage1.0.conv1 w3 a4', as a search of bits writes it"},
    {.name = "weight-quantizer", .type = QE_OPTION_CHOICE, .initial = "lsq", .words = "lsq|dorefa|l2|l2-odd|max", .metavar = "RULE", .group = MODEL, .commands = "train",
     .help = "how the step of the weights is found"},
    {.name = "act-quantizer", .type = QE_OPTION_CHOICE, .initial = "lsq", .words = "lsq|pact|dorefa|l2", .metavar = "RULE", .group = MODEL, .commands = "train",
     .help = "how the step of the activations is found"},
    {.name = "per-channel", .type = QE_OPTION_FLAG, .group = MODEL, .commands = "train",
     .help = "a weight step for each output channel"},

    {.name = "epochs", .letter = 'e', .type = QE_OPTION_INT, .initial = "auto", .range = {0, 1000000}, .words = "auto", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "num-epochs|max-epochs",
     .help = "passes over the training images; auto: the method's"},
    {.name = "float-epochs", .type = QE_OPTION_INT, .initial = "30", .range = {0, 1000000}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "epochs of full-precision training that come first, unless the run starts from --init"},
    {.name = "float-rate", .type = QE_OPTION_REAL, .initial = "0.1", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "largest learning rate of that part"},
    {.name = "accumulate", .type = QE_OPTION_INT, .initial = "1", .range = {1, 65536}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "grad-accum|gradient-accumulation",
     .help = "batches whose gradients are summed for one update"},
    {.name = "optimizer", .type = QE_OPTION_CHOICE, .initial = "sgd", .words = "sgd|adam", .metavar = "NAME", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "opt",
     .help = "update rule; adam decays weights as AdamW does"},
    {.name = "rate", .type = QE_OPTION_REAL, .initial = "auto", .range = {0, HUGE_VAL}, .words = "auto", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "lr|learning-rate",
     .help = "largest learning rate; auto: the method's"},
    {.name = "momentum", .type = QE_OPTION_REAL, .initial = "0.9", .range = {0, 1}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "SGD's momentum; Adam's first decay"},
    {.name = "nesterov", .type = QE_OPTION_FLAG, .initial = "true", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "Nesterov's form of the momentum"},
    {.name = "weight-decay", .type = QE_OPTION_REAL, .initial = "1e-4", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "wd|decay",
     .help = "of weights only: batch norm, biases and steps are left alone"},
    {.name = "schedule", .type = QE_OPTION_CHOICE, .initial = "cosine", .words = "step|cosine|cyclical|cosine-cycles|triangular|onecycle|constant", .metavar = "NAME", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "lr-schedule|scheduler|lr-scheduler",
     .help = "course of the learning rate"},
    {.name = "warmup", .type = QE_OPTION_REAL, .initial = "0", .range = {0, HUGE_VAL}, .metavar = "EPOCHS", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "epochs in which the rate rises from 0; onecycle: its rising part"},
    {.name = "milestones", .type = QE_OPTION_INTS, .initial = "", .range = {0, 1000000}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "lr-steps|lr-milestones",
     .help = "step schedule: epochs at which the rate falls"},
    {.name = "gamma", .type = QE_OPTION_REAL, .initial = "0.1", .range = {0, 1}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "lr-gamma|lr-decay",
     .help = "step schedule: factor of the rate at each of them"},
    {.name = "cycle", .type = QE_OPTION_REAL, .initial = "10", .range = {0.001, HUGE_VAL}, .metavar = "EPOCHS", .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "cyclical, cosine-cycles and triangular: epochs of a cycle"},
    {.name = "min-rate", .type = QE_OPTION_REAL, .initial = "0", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "cosine, onecycle and schedules with cycles: the lowest rate"},
    {.name = "label-smoothing", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 0.999}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "smoothing",
     .help = "share of the target spread over all classes"},
    {.name = "clip-norm", .type = QE_OPTION_REAL, .initial = "0", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS, .also = "clip-grad|grad-clip|max-norm",
     .help = "largest norm of the gradient; 0: no limit"},
    {.name = "ema", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 0.999999}, .group = TRAINING, .commands = "train", .methods = BY_GRADIENTS,
     .help = "decay a step of the moving average of the weights, which is then the model; 0: none"},
    {.name = "seed", .type = QE_OPTION_INT, .initial = "1", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train report",
     .help = "of all random numbers; the same seed on the same backend is the same run"},

#define QE_PROGRESSIVE_TEXT(member, text, value, shown, says) \
    {.name = "progressive-" text, .type = QE_OPTION_TEXT, .initial = value, .metavar = shown, .group = PROGRESSIVE, .commands = "train", .methods = "progressive", .help = says},
#include "core/methods/progressive_options.def"
#undef QE_PROGRESSIVE_TEXT
    {.name = "stochastic", .type = QE_OPTION_CHOICE, .initial = "off", .words = "off|layer|block|network", .group = PROGRESSIVE, .commands = "train", .methods = BY_GRADIENTS,
     .help = "stochastic precision of quantised training: in each step a drawn part of the layers or of the blocks is quantised, or the whole network in a part of the steps; the rest runs in full precision"},
    {.name = "stochastic-draw", .type = QE_OPTION_CHOICE, .initial = "independent", .words = "independent|count|front|back", .metavar = "HOW", .group = PROGRESSIVE, .commands = "train", .methods = BY_GRADIENTS,
     .help = "the part: each unit by chance, so many of any, so many from the input on, so many up to the output"},
    {.name = "stochastic-growth", .type = QE_OPTION_CHOICE, .initial = "linear", .words = "linear|cosine|cubic|constant", .metavar = "CURVE", .group = PROGRESSIVE, .commands = "train", .methods = BY_GRADIENTS,
     .help = "how the part grows to the whole; constant: not before it is the whole"},
    {.name = "stochastic-start", .type = QE_OPTION_REAL, .initial = "0.3", .range = {0, 1}, .metavar = "PART", .group = PROGRESSIVE, .commands = "train", .methods = BY_GRADIENTS,
     .help = "part that is quantised at first"},
    {.name = "stochastic-until", .type = QE_OPTION_REAL, .initial = "0.6667", .range = {0, 1}, .metavar = "PART", .group = PROGRESSIVE, .commands = "train", .methods = BY_GRADIENTS,
     .help = "part of the training (progressive: of each stage) after which all is quantised"},
    {.name = "stochastic-separate", .type = QE_OPTION_FLAG, .group = PROGRESSIVE, .commands = "train", .methods = BY_GRADIENTS,
     .help = "weights and activations are drawn each for themselves"},
#define QE_SQWA_INT(field, text, value, least, most, says) \
    {.name = "sqwa-" text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = AVERAGING, .commands = "train", .methods = "sqwa", .help = says},
#define QE_SQWA_REAL(field, text, value, least, most, says) \
    {.name = "sqwa-" text, .type = QE_OPTION_REAL, .initial = #value, .range = {least, most}, .group = AVERAGING, .commands = "train", .methods = "sqwa", .help = says},
#include "core/methods/sqwa_options.def"
#undef QE_SQWA_INT
#undef QE_SQWA_REAL
    {.name = "sqwa-step", .type = QE_OPTION_CHOICE, .initial = "fit", .words = "fit|keep", .group = AVERAGING, .commands = "train", .methods = "sqwa",
     .help = "weight steps at which the average is quantised: of least squared error for it, or those of the captured models"},
    {.name = "sqwa-choose", .type = QE_OPTION_CHOICE, .initial = "all", .words = "all|best|soup", .group = AVERAGING, .commands = "train", .methods = "sqwa",
     .help = "which captured models are averaged: all, the best by held-out loss, or greedily as long as that of the quantised average does not rise"},
    {.name = "captures", .type = QE_OPTION_TEXT, .initial = "all", .metavar = "N,…", .group = AVERAGING, .commands = "train", .methods = "sqwa",
     .help = "captured models to choose from, as in 1,3,5-7"},
    {.name = "sqwa-from", .type = QE_OPTION_PATH, .metavar = "RUN", .group = AVERAGING, .commands = "train", .methods = "sqwa",
     .help = "train no cycles: average the captured models in this run's folder, with its options but for those given, and fine-tune"},
    {.name = "distill", .type = QE_OPTION_CHOICE, .initial = "none", .words = "none|frozen|joint|self|average", .group = DISTILLATION, .commands = "train", .methods = BY_GRADIENTS,
     .help = "what the low-bit network learns from beside the labels: a trained network (--teacher, else its own start at full precision), the same trained on jointly, itself without quantisers, its moving average (--ema)"},
    {.name = "teacher", .type = QE_OPTION_PATH, .metavar = "FILE", .group = DISTILLATION, .commands = "train",
     .help = "model to learn from, a larger one too; of searches also an integer network, else the float model of --init at 8 bits"},
    {.name = "distill-loss", .type = QE_OPTION_CHOICE, .initial = "kl", .words = "kl|reverse|jeffreys|mse", .group = DISTILLATION, .commands = "train", .methods = BY_GRADIENTS,
     .help = "distance between the two networks' answers: divergence from the other's, the other way round, the mean of both, mean squared difference of logits"},
#define QE_DISTILL_REAL(field, text, value, least, most, says) \
    {.name = "distill-" text, .type = QE_OPTION_REAL, .initial = #value, .range = {least, most}, .group = DISTILLATION, .commands = "train", .methods = BY_GRADIENTS, .help = says},
#include "core/train/distill_options.def"
#undef QE_DISTILL_REAL
    {.name = "distill-hint", .type = QE_OPTION_CHOICE, .initial = "none", .words = "none|square|codes|attention", .metavar = "FORM", .group = DISTILLATION, .commands = "train", .methods = BY_GRADIENTS,
     .help = "compare feature maps too: mean squared difference, the same of their codes, or where they are large (any number of channels)"},
    {.name = "distill-hint-at", .type = QE_OPTION_TEXT, .initial = "stages", .metavar = "WHERE", .group = DISTILLATION, .commands = "train", .methods = BY_GRADIENTS,
     .help = "which maps: stages (the last at each size), last, or layers by name, as in stage2.2.relu2 or stage3.2.relu2=stage3.8.relu2"},

    {.name = "stages", .type = QE_OPTION_TEXT, .initial = "eda", .metavar = "STAGE,…", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "coevolution: what is done, in this order; a wrong name lists them"},
    {.name = "evolve", .type = QE_OPTION_TEXT, .initial = "weights", .metavar = "WHAT,…", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "what the stages that evaluate candidates may change: weights, requantisers"},
    {.name = "fitness", .type = QE_OPTION_CHOICE, .initial = "labels", .words = "labels|teacher|both", .metavar = "LOSS", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "cross-entropy with the labels, divergence from the teacher's answers, or their sum"},
    {.name = "temperature", .type = QE_OPTION_INT, .initial = "1", .range = {1, 64}, .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "of the teacher's answers: at a high one the differences of all logits count, not only the sure classes'"},
    {.name = "augment", .type = QE_OPTION_FLAG, .group = SEARCH, .commands = "train",
     .help = "candidates are evaluated on augmented images (--pad, --flip, --cutout, colours, --mixup)"},
    {.name = "budget", .type = QE_OPTION_INT, .initial = "0", .range = {0, HUGE_VAL}, .metavar = "IMAGES", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "candidate-images after which the search ends: candidates times images of every evaluation; 0: when its stages are done"},
#define QE_LOCAL_INT(field, text, value, least, most, says) \
    {.name = "local-" text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#define QE_LOCAL_FLAG(field, text, value, says) \
    {.name = "local-" text, .type = QE_OPTION_FLAG, .initial = #value, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#include "core/evolve/local_options.def"
#undef QE_LOCAL_INT
#undef QE_LOCAL_FLAG
#define QE_EDA_INT(field, text, value, least, most, says) \
    {.name = "eda-" text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#define QE_EDA_FLAG(field, text, value, says) \
    {.name = "eda-" text, .type = QE_OPTION_FLAG, .initial = #value, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#include "core/evolve/eda_options.def"
#undef QE_EDA_INT
#undef QE_EDA_FLAG
    {.name = "eda-group-by", .type = QE_OPTION_CHOICE, .initial = "network", .words = "network|layer|block", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "what the weights of a group have in common: nothing, their layer, their block; the last ones come first"},
#define QE_VOTES_INT(field, text, value, least, most, says) \
    {.name = "votes-" text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#define QE_VOTES_FLAG(field, text, value, says) \
    {.name = "votes-" text, .type = QE_OPTION_FLAG, .initial = #value, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#include "core/evolve/votes_options.def"
#undef QE_VOTES_INT
#undef QE_VOTES_FLAG
    {.name = "votes-source", .type = QE_OPTION_CHOICE, .initial = "nodes", .words = "nodes|signs|backprop", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "what votes come from: noise on a layer's outputs, pairs of candidates with a few random moves, or integer back-propagation"},
#define QE_GENE_INT(stage, field, text, value, least, most, says) \
    {.name = text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#include "core/evolve/gene_options.def"
#undef QE_GENE_INT
#define QE_SCRATCH_INT(field, text, value, least, most, says) \
    {.name = "scratch-" text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = SEARCH, .commands = "train", .methods = "coevolution", .help = says},
#include "core/evolve/scratch_options.def"
#undef QE_SCRATCH_INT
    {.name = "scratch-source", .type = QE_OPTION_CHOICE, .initial = "backprop", .words = "heads|feedback|backprop|nodes|rank1", .metavar = "SOURCE", .group = SEARCH, .commands = "train", .methods = "coevolution",
     .help = "scratch: where errors come from: local heads, learned feedback, back-propagation, perturbation of nodes, rank-one perturbation of weights"},
    {.name = "hash", .type = QE_OPTION_FLAG, .group = SEARCH, .commands = "train", .methods = "coevolution", .transient = true,
     .help = "print a hash of the network every generation: the same on every backend"},

#define QE_GFB_INT(field, text, value, least, most, says) \
    {.name = "gfb-" text, .type = QE_OPTION_INT, .initial = #value, .range = {least, most}, .group = ALLOCATION, .commands = "train", .methods = "gradfreebits", .help = says},
#define QE_GFB_REAL(field, text, value, least, most, says) \
    {.name = "gfb-" text, .type = QE_OPTION_REAL, .initial = #value, .range = {least, most}, .group = ALLOCATION, .commands = "train", .methods = "gradfreebits", .help = says},
#define QE_GFB_FLAG(field, text, value, says) \
    {.name = "gfb-" text, .type = QE_OPTION_FLAG, .initial = #value, .group = ALLOCATION, .commands = "train", .methods = "gradfreebits", .help = says},
#include "core/methods/gradfreebits_options.def"
#undef QE_GFB_INT
#undef QE_GFB_REAL
#undef QE_GFB_FLAG
    {.name = "gfb-searcher", .type = QE_OPTION_TEXT, .initial = "cma", .metavar = "NAME", .group = ALLOCATION, .commands = "train", .methods = "gradfreebits",
     .help = "what looks for the bits; a wrong name lists them"},
    {.name = "gfb-budgets", .type = QE_OPTION_TEXT, .initial = "", .metavar = "COST=LIMIT,…", .group = ALLOCATION, .commands = "train", .methods = "gradfreebits",
     .help = "what an allocation may cost, as in weight-bits=3,act-bits=3 or bytes=100e3; nothing: as the start's weights and codes"},
    {.name = "gfb-latency", .type = QE_OPTION_PATH, .metavar = "FILE", .group = ALLOCATION, .commands = "train", .methods = "gradfreebits",
     .help = "table of latencies for a budget of them, as 'qevo-gpu bench latency' writes it"},
    {.name = "gfb-energy", .type = QE_OPTION_PATH, .metavar = "FILE", .group = ALLOCATION, .commands = "train", .methods = "gradfreebits",
     .help = "table of energies for a budget of them: lines LAYER WEIGHT-BITS CODE-BITS NANOJOULES"},

    {.name = "search-variables", .type = QE_OPTION_MAP, .group = SETTINGS, .commands = "train",
     .help = "in recipes and config files, as search: {variables: {rate: {from: 0.01, to: 0.1, scale: log}}}: options, and the values among which the best are looked for, a trial with each; STEP.NAME in a pipeline"},
    {.name = "search-trials", .type = QE_OPTION_INT, .initial = "24", .range = {1, 100000}, .group = SETTINGS, .commands = "train",
     .help = "trainings in all; with --resume a finished search goes on to more"},
    {.name = "search-searcher", .type = QE_OPTION_CHOICE, .initial = "cma", .words = &QE_SEARCHER_WORDS[1], .metavar = "NAME", .group = SETTINGS, .commands = "train",
     .help = "what proposes the values"},
    {.name = "search-population", .type = QE_OPTION_INT, .initial = "0", .range = {0, 4096}, .metavar = "TRIALS", .group = SETTINGS, .commands = "train",
     .help = "trials from which the searcher learns at once; 0: its own number"},
    {.name = "search-objective", .type = QE_OPTION_TEXT, .initial = "loss", .metavar = "NAME,…", .group = SETTINGS, .commands = "train",
     .help = "what makes a trial the best: loss or top1 on the held-out training images, bytes, bit-ops; several for the searcher pareto, the first chooses"},
    {.name = "search-keep", .type = QE_OPTION_CHOICE, .initial = "best", .words = "best|all", .group = SETTINGS, .commands = "train",
     .help = "whose models and checkpoints stay"},

    {.name = "method", .type = QE_OPTION_TEXT, .metavar = "METHOD", .group = RUN, .commands = "train",
     .help = "how to train, in recipes and config files; the argument METHOD wins over it"},
    {.name = "pipeline", .type = QE_OPTION_STEPS, .group = RUN, .commands = "train",
     .help = "in recipes and config files: methods one after the other, each with options of its own and from the model of the one before; --set STEP.NAME=VALUE reaches a step"},
    {.name = "list", .type = QE_OPTION_FLAG, .group = RUN, .commands = "train", .transient = true,
     .help = "list methods and recipes, train nothing"},
    {.name = "init", .letter = 'i', .type = QE_OPTION_PATH, .metavar = "FILE", .group = RUN, .commands = "train", .chained = true, .also = "pretrained|ckpt|checkpoint|load",
     .help = "start from this model (.safetensors, or the folder of a run) rather than from random weights; coevolution: or from an integer network"},
    {.name = "out", .letter = 'o', .type = QE_OPTION_PATH, .metavar = "PATH", .group = RUN, .commands = "train export report", .transient = true, .also = "output|output-dir|save-dir|log-dir",
     .help = "train: the run folder, with config, metrics, checkpoints, best and last model; export: the file; report: the page, report.html in the folder of a single run unless given; report surface: the folder, surface in that of the run unless given"},
    {.name = "resume", .type = QE_OPTION_FLAG, .group = RUN, .commands = "train", .transient = true, .also = "continue",
     .help = "go on from the run folder's last checkpoint"},
    {.name = "save-every", .type = QE_OPTION_INT, .initial = "1", .range = {0, 1000000}, .metavar = "EPOCHS", .group = RUN, .commands = "train",
     .help = "epochs (of a search: generations) between checkpoints; 0: only at the end"},
    {.name = "save-minutes", .type = QE_OPTION_REAL, .initial = "10", .range = {0, 1e6}, .metavar = "MINUTES", .group = RUN, .commands = "train",
     .help = "a further checkpoint, within an epoch too, where the last is as old as this; 0: none"},
    {.name = "save-steps", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1000000000}, .metavar = "STEPS", .group = RUN, .commands = "train",
     .help = "batches between further checkpoints within an epoch; 0: none"},
    {.name = "keep", .type = QE_OPTION_INT, .initial = "2", .range = {1, 1000}, .metavar = "N", .group = RUN, .commands = "train",
     .help = "checkpoints that are kept: the newest and those before it; a damaged one is replaced by the one before"},
    {.name = "log-every", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1000000000}, .metavar = "STEPS", .group = RUN, .commands = "train", .also = "print-freq|log-interval",
     .help = "steps between lines of metrics.jsonl; 0: a line an epoch"},
    {.name = "integer", .type = QE_OPTION_FLAG, .group = RUN, .commands = "eval",
     .help = "evaluate the model's integer network rather than the float one with fake quantisers"},
    {.name = "agreement", .type = QE_OPTION_FLAG, .group = RUN, .commands = "eval",
     .help = "evaluate both, and say for how many images they predict the same class"},
    {.name = "evaluate", .type = QE_OPTION_FLAG, .initial = "true", .group = RUN, .commands = "report", .transient = true,
     .help = "evaluate each run's best network on the test images for wrong answers, activations and the float twin; --no-evaluate is faster"},
    {.name = "watch", .type = QE_OPTION_FLAG, .group = RUN, .commands = "report", .transient = true,
     .help = "write the page again whenever a run has gone on, until it ends or Ctrl-C; an open page reloads itself"},
    {.name = "dry-run", .type = QE_OPTION_FLAG, .group = RUN, .commands = "train", .transient = true,
     .help = "check everything, time a few steps, print the resolved config and what the run will take, train nothing"},
    {.name = "find-rate", .type = QE_OPTION_FLAG, .group = RUN, .commands = "train", .transient = true,
     .help = "train nothing; sweep the learning rate over 100 steps and suggest one; --out: with CSV, JSON and SVG there"},
    {.name = "dump", .type = QE_OPTION_PATH, .metavar = "FILE", .group = RUN, .commands = RUNS, .transient = true,
     .help = "write the network as text"},
    {.name = "dump-dot", .type = QE_OPTION_PATH, .metavar = "FILE", .group = RUN, .commands = RUNS, .transient = true,
     .help = "write the network as a Graphviz graph"},

    {.name = "grid", .type = QE_OPTION_INT, .initial = "31", .range = {0, 1001}, .metavar = "POINTS", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface: points of a side of the plane; 0: no plane"},
    {.name = "path", .type = QE_OPTION_INT, .initial = "31", .range = {0, 100001}, .metavar = "POINTS", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface: points of the straight line from each model to the next; 0: no path"},
    {.name = "through", .type = QE_OPTION_CHOICE, .initial = "quantised", .words = "quantised|shadow", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface: what of the models the plane goes through: their quantised weights, or the shadow weights that these are rounded from"},
    {.name = "batch-norm", .type = QE_OPTION_CHOICE, .initial = "estimate", .words = "estimate|blend", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface: statistics of points between models: estimated anew from training images, or blended from the models'"},
    {.name = "norm-images", .type = QE_OPTION_INT, .initial = "256", .range = {2, 1000000}, .metavar = "IMAGES", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface: training images for these statistics"},
    {.name = "margin", .type = QE_OPTION_REAL, .initial = "0.3", .range = {0, 100}, .metavar = "SHARE", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface: how far the plane goes beyond the models, as a share of their extent"},
    {.name = "directions", .type = QE_OPTION_CHOICE, .initial = "filter", .words = "filter|whole", .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface of one model: random directions in which each filter is as long as the model's, or the whole as its weights"},
    {.name = "reach", .type = QE_OPTION_REAL, .initial = "1", .range = {0.000001, 1000}, .group = SURFACES, .commands = "report", .transient = true,
     .help = "report surface of one model: how far along each direction, both ways"},

    {.name = "repeat", .type = QE_OPTION_INT, .initial = "7", .range = {1, 1000}, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "times that each case is measured; the median counts; bench population: 3 unless given"},
    {.name = "steps", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1000000}, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "training steps or runs of a network in one measurement; 0: about half a second of them"},
    {.name = "cases", .type = QE_OPTION_TEXT, .initial = "all", .metavar = "NAME,…", .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "bench conv: which cases; a wrong name lists them"},
    {.name = "candidates", .type = QE_OPTION_INT, .initial = "64", .range = {1, 4096}, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "bench population: candidates, each with weights of its own"},
    {.name = "images", .type = QE_OPTION_INT, .initial = "512", .range = {1, 65536}, .group = MEASUREMENT, .commands = "bench report", .transient = true,
     .help = "bench population: images that each candidate is evaluated on; report surface: of the training and of the test images"},
    {.name = "memory", .type = QE_OPTION_INT, .initial = "1024", .range = {1, 16777216}, .metavar = "MIB", .group = MEASUREMENT, .commands = "train bench report", .transient = true,
     .help = "MiB that the evaluation of candidates may take beside the images; more candidates run in turns"},
    {.name = "latency-bits", .type = QE_OPTION_INTS, .initial = "2,4,8", .range = {1, 8}, .metavar = "BITS,…", .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "bench latency: bits of weights and of activations that are measured, each with each"},
    {.name = "latency-file", .type = QE_OPTION_PATH, .metavar = "FILE", .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "bench latency: write the table there that budgets of latency are read from"},
    {.name = "chart", .type = QE_OPTION_PATH, .metavar = "FILE", .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "write the rows as an HTML file with bars as well"},
    {.name = "peers", .type = QE_OPTION_PATH, .metavar = "FILE", .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "JSON rows of other programs, as bench/peer_gpu_pytorch.py prints them, for the chart"},
    {.name = "serve", .type = QE_OPTION_FLAG, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "measure once for each line of standard input and print JSON, to take turns with other programs"},
    {.name = "tune", .type = QE_OPTION_FLAG, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "bench population: first find the numbers with which the device's kernels are fastest, and keep them (backend opencl)"},
    {.name = "profile", .type = QE_OPTION_FLAG, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "bench train: write on stderr where the time of a step goes, by implementation and operation"},
};
/* clang-format on */

const size_t qe_option_table_rows = sizeof qe_option_table / sizeof *qe_option_table;
