/* Every option of every subcommand: one table behind command line, config file and --help. */
#include "tools/command.h"

#include <math.h>

#define GENERAL "general"
#define DEVICE "where it runs"
#define DATA "data"
#define MODEL "model and bits"
#define TRAINING "training"
#define RUN "run"
#define MEASUREMENT "measurement"

#define RUNS "train eval"
#define ALL_RUNS RUNS " bench"

/* clang-format off */
const qe_option qe_option_table[] = {
    {.name = "config", .letter = 'c', .type = QE_OPTION_PATH, .metavar = "FILE", .group = GENERAL, .transient = true,
     .help = "options from a YAML file; the command line wins over it"},
    {.name = "set", .letter = 's', .type = QE_OPTION_TEXT, .metavar = "NAME=VALUE", .group = GENERAL, .transient = true,
     .help = "set an option by name, as in a config file; may be given often"},
    {.name = "json", .type = QE_OPTION_FLAG, .group = GENERAL, .transient = true,
     .help = "print the result as JSON on stdout, and nothing else"},

    {.name = "backend", .letter = 'b', .type = QE_OPTION_TEXT, .initial = "auto", .metavar = "NAME", .group = DEVICE, .commands = ALL_RUNS,
     .help = "backend, as 'qevo-gpu devices' lists them; auto: the fastest usable one; bench: several, with commas between"},
    {.name = "device", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1023}, .group = DEVICE, .commands = ALL_RUNS,
     .help = "number of the backend's device"},
    {.name = "threads", .type = QE_OPTION_INT, .initial = "0", .range = {0, 4096}, .group = DEVICE, .commands = ALL_RUNS,
     .help = "threads on the CPU; 0: all cores"},
    {.name = "explain", .type = QE_OPTION_FLAG, .group = DEVICE, .commands = ALL_RUNS, .transient = true,
     .help = "say on stderr which implementation each operation takes"},

    {.name = "data", .letter = 'd', .type = QE_OPTION_TEXT, .initial = "cifar10", .metavar = "NAME", .group = DATA, .commands = ALL_RUNS,
     .help = "data set"},
    {.name = "data-dir", .type = QE_OPTION_PATH, .metavar = "FOLDER", .group = DATA, .commands = ALL_RUNS,
     .help = "where it lies; else $QEVO_DATA_DIR, ~/.cache/qevo-gpu, then the subset built in"},
    {.name = "batch", .type = QE_OPTION_INT, .initial = "128", .range = {1, 65536}, .group = DATA, .commands = ALL_RUNS,
     .help = "images a step"},
    {.name = "held-out", .type = QE_OPTION_INT, .initial = "0", .range = {0, 10000000}, .group = DATA, .commands = "train",
     .help = "training images kept back for validation, which then chooses the best model"},
    {.name = "pad", .type = QE_OPTION_INT, .initial = "4", .range = {0, 64}, .group = DATA, .commands = "train",
     .help = "augmentation: pixels of padding for the random crop; 0: no crop"},
    {.name = "flip", .type = QE_OPTION_FLAG, .initial = "true", .group = DATA, .commands = "train",
     .help = "augmentation: mirror half of the images"},

    {.name = "model", .letter = 'm', .type = QE_OPTION_TEXT, .initial = "resnet20", .metavar = "NAME", .group = MODEL, .commands = "train bench",
     .help = "network of the model zoo"},
    {.name = "shortcut", .type = QE_OPTION_CHOICE, .initial = "A", .words = "A|B", .group = MODEL, .commands = "train",
     .help = "residual networks where the shape changes: A subsamples and adds zero channels, B is a 1x1 convolution"},
    {.name = "weight-bits", .letter = 'w', .type = QE_OPTION_INT, .initial = "4", .range = {1, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train bench",
     .help = "bits of a weight; 32: float"},
    {.name = "act-bits", .letter = 'a', .type = QE_OPTION_INT, .initial = "4", .range = {1, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train bench",
     .help = "bits of an activation; 32: float"},
    {.name = "first-last-bits", .type = QE_OPTION_INT, .initial = "8", .range = {0, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train",
     .help = "bits of the first and the last layer; 0: as the others"},
    {.name = "residual-bits", .type = QE_OPTION_INT, .initial = "8", .range = {1, 8}, .words = "32", .metavar = "BITS", .group = MODEL, .commands = "train",
     .help = "bits of the codes on a skip connection"},
    {.name = "layer-bits", .type = QE_OPTION_TEXT, .initial = "", .metavar = "LAYER=wNaN,…", .group = MODEL, .commands = "train",
     .help = "bits of single layers, as in stage1.0.conv1=w3a4,fc=w8"},
    {.name = "weight-quantizer", .type = QE_OPTION_CHOICE, .initial = "lsq", .words = "lsq|dorefa|l2|max", .metavar = "RULE", .group = MODEL, .commands = "train",
     .help = "how the step of the weights is found"},
    {.name = "act-quantizer", .type = QE_OPTION_CHOICE, .initial = "lsq", .words = "lsq|pact|dorefa|l2", .metavar = "RULE", .group = MODEL, .commands = "train",
     .help = "how the step of the activations is found"},
    {.name = "per-channel", .type = QE_OPTION_FLAG, .group = MODEL, .commands = "train",
     .help = "a weight step for each output channel"},

    {.name = "epochs", .letter = 'e', .type = QE_OPTION_INT, .initial = "auto", .range = {0, 1000000}, .words = "auto", .group = TRAINING, .commands = "train",
     .help = "passes over the training images; auto: the method's"},
    {.name = "float-epochs", .type = QE_OPTION_INT, .initial = "30", .range = {0, 1000000}, .group = TRAINING, .commands = "train",
     .help = "epochs of full-precision training that come first, unless the run starts from --init"},
    {.name = "float-rate", .type = QE_OPTION_REAL, .initial = "0.1", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train",
     .help = "largest learning rate of that part"},
    {.name = "accumulate", .type = QE_OPTION_INT, .initial = "1", .range = {1, 65536}, .group = TRAINING, .commands = "train",
     .help = "batches whose gradients are summed for one update"},
    {.name = "optimizer", .type = QE_OPTION_CHOICE, .initial = "sgd", .words = "sgd|adam", .metavar = "NAME", .group = TRAINING, .commands = "train",
     .help = "update rule; adam decays weights as AdamW does"},
    {.name = "rate", .type = QE_OPTION_REAL, .initial = "auto", .range = {0, HUGE_VAL}, .words = "auto", .group = TRAINING, .commands = "train",
     .help = "largest learning rate; auto: the method's"},
    {.name = "momentum", .type = QE_OPTION_REAL, .initial = "0.9", .range = {0, 1}, .group = TRAINING, .commands = "train",
     .help = "SGD's momentum; Adam's first decay"},
    {.name = "nesterov", .type = QE_OPTION_FLAG, .initial = "true", .group = TRAINING, .commands = "train",
     .help = "Nesterov's form of the momentum"},
    {.name = "weight-decay", .type = QE_OPTION_REAL, .initial = "1e-4", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train",
     .help = "of weights only: batch norm, biases and steps are left alone"},
    {.name = "schedule", .type = QE_OPTION_CHOICE, .initial = "cosine", .words = "step|cosine|cyclical|onecycle|constant", .metavar = "NAME", .group = TRAINING, .commands = "train",
     .help = "course of the learning rate"},
    {.name = "warmup", .type = QE_OPTION_REAL, .initial = "0", .range = {0, HUGE_VAL}, .metavar = "EPOCHS", .group = TRAINING, .commands = "train",
     .help = "epochs in which the rate rises from 0; onecycle: its rising part"},
    {.name = "milestones", .type = QE_OPTION_INTS, .initial = "", .range = {0, 1000000}, .group = TRAINING, .commands = "train",
     .help = "step schedule: epochs at which the rate falls"},
    {.name = "gamma", .type = QE_OPTION_REAL, .initial = "0.1", .range = {0, 1}, .group = TRAINING, .commands = "train",
     .help = "step schedule: factor of the rate at each of them"},
    {.name = "cycle", .type = QE_OPTION_REAL, .initial = "10", .range = {0.001, HUGE_VAL}, .metavar = "EPOCHS", .group = TRAINING, .commands = "train",
     .help = "cyclical schedule: epochs of a cycle"},
    {.name = "min-rate", .type = QE_OPTION_REAL, .initial = "0", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train",
     .help = "cosine, cyclical and onecycle: the lowest rate"},
    {.name = "label-smoothing", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 0.999}, .group = TRAINING, .commands = "train",
     .help = "share of the target spread over all classes"},
    {.name = "clip-norm", .type = QE_OPTION_REAL, .initial = "0", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train",
     .help = "largest norm of the gradient; 0: no limit"},
    {.name = "ema", .type = QE_OPTION_REAL, .initial = "0", .range = {0, 0.999999}, .group = TRAINING, .commands = "train",
     .help = "decay a step of the moving average of the weights, which is then the model; 0: none"},
    {.name = "seed", .type = QE_OPTION_INT, .initial = "1", .range = {0, HUGE_VAL}, .group = TRAINING, .commands = "train",
     .help = "of all random numbers; the same seed on the same backend is the same run"},

    {.name = "init", .letter = 'i', .type = QE_OPTION_PATH, .metavar = "FILE", .group = RUN, .commands = "train",
     .help = "start from this model (.safetensors) rather than from random weights"},
    {.name = "out", .letter = 'o', .type = QE_OPTION_PATH, .metavar = "FOLDER", .group = RUN, .commands = "train", .transient = true,
     .help = "run folder: config, metrics, checkpoints, best and last model"},
    {.name = "resume", .type = QE_OPTION_FLAG, .group = RUN, .commands = "train", .transient = true,
     .help = "go on from the run folder's last checkpoint"},
    {.name = "save-every", .type = QE_OPTION_INT, .initial = "1", .range = {0, 1000000}, .metavar = "EPOCHS", .group = RUN, .commands = "train",
     .help = "epochs between checkpoints; 0: only at the end"},
    {.name = "log-every", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1000000000}, .metavar = "STEPS", .group = RUN, .commands = "train",
     .help = "steps between lines of metrics.jsonl; 0: a line an epoch"},
    {.name = "integer", .type = QE_OPTION_FLAG, .group = RUN, .commands = "eval",
     .help = "evaluate the integer network rather than the float one with fake quantisers"},
    {.name = "dry-run", .type = QE_OPTION_FLAG, .group = RUN, .commands = "train", .transient = true,
     .help = "check everything, print the resolved config, train nothing"},
    {.name = "dump", .type = QE_OPTION_PATH, .metavar = "FILE", .group = RUN, .commands = RUNS, .transient = true,
     .help = "write the network as text"},
    {.name = "dump-dot", .type = QE_OPTION_PATH, .metavar = "FILE", .group = RUN, .commands = RUNS, .transient = true,
     .help = "write the network as a Graphviz graph"},

    {.name = "repeat", .type = QE_OPTION_INT, .initial = "7", .range = {1, 1000}, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "times that each case is measured; the median counts"},
    {.name = "steps", .type = QE_OPTION_INT, .initial = "0", .range = {0, 1000000}, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "training steps of one measurement; 0: about 0.6 seconds of them"},
    {.name = "profile", .type = QE_OPTION_FLAG, .group = MEASUREMENT, .commands = "bench", .transient = true,
     .help = "write on stderr where the time of a step goes, by implementation and operation"},
};
/* clang-format on */

const size_t qe_option_table_rows = sizeof qe_option_table / sizeof *qe_option_table;
