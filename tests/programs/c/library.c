/* Memory allocation under stress, sorting, time functions, floating point, and other parts of the C library. */
#define _GNU_SOURCE
#include "check.h"
#include <fenv.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

static uint64_t state = 88172645463325252u;

static uint64_t number(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

enum { SLOTS = 400 };

static void malloc_stress(void) {
    static unsigned char *slot[SLOTS];
    static size_t size[SLOTS];
    for (int round = 0; round < 30000; round++) {
        int i = number() % SLOTS;
        if (slot[i])
            CHECK(slot[i][0] == (unsigned char)i && slot[i][size[i] - 1] == (unsigned char)i);
        size_t want = 1 + number() % (number() % 64 == 0 ? 100000 : 2000);
        if (number() % 3 == 0) {
            free(slot[i]);
            slot[i] = 0;
            continue;
        }
        slot[i] = realloc(slot[i], want);
        CHECK(slot[i]);
        size[i] = want;
        slot[i][0] = slot[i][want - 1] = i;
    }
    for (int i = 0; i < SLOTS; i++)
        free(slot[i]);
    /* Large ones come from the kernel by themselves, zeroed and aligned. */
    for (int i = 0; i < 50; i++) {
        char *large = calloc(1, 1 << 20);
        CHECK(large && large[0] == 0 && large[(1 << 20) - 1] == 0);
        large[12345] = 1;
        free(large);
    }
    void *aligned;
    CHECK(posix_memalign(&aligned, 65536, 100) == 0 && (uintptr_t)aligned % 65536 == 0);
    free(aligned);
    errno = 0;
    CHECK(!malloc(SIZE_MAX / 2 - 4096) && errno == ENOMEM);
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void sorting(void) {
    enum { N = 50000 };
    uint64_t *values = malloc(N * sizeof *values), sum = 0;
    CHECK(values);
    for (int i = 0; i < N; i++)
        sum += values[i] = number();
    qsort(values, N, sizeof *values, ascending);
    for (int i = 0; i < N; i++) {
        CHECK(i == 0 || values[i - 1] <= values[i]);
        sum -= values[i];
    }
    CHECK(sum == 0);
    uint64_t key = values[777];
    CHECK(*(uint64_t *)bsearch(&key, values, N, sizeof *values, ascending) == key);
    free(values);
}

static void times(void) {
    struct timespec a, b, nap = {0, 30000000};
    CHECK(clock_gettime(CLOCK_MONOTONIC, &a) == 0 && nanosleep(&nap, 0) == 0);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &b) == 0);
    int64_t took = (b.tv_sec - a.tv_sec) * 1000000000ll + b.tv_nsec - a.tv_nsec;
    CHECK(took >= 30000000 && took < 10000000000ll);
    time_t now = time(0);
    struct timeval tv;
    CHECK(gettimeofday(&tv, 0) == 0 && tv.tv_sec - now >= 0 && tv.tv_sec - now <= 5 && now > 946684800);
    struct tm tm;
    time_t then = 1000000000;
    char text[64];
    CHECK(gmtime_r(&then, &tm) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm) == 19);
    CHECK(strcmp(text, "2001-09-09 01:46:40") == 0 && timegm(&tm) == then);
    clock_t start = clock();
    volatile double x = 0;
    while (clock() - start < CLOCKS_PER_SEC / 20)
        x += 1;
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    /* How the time divides into user's and system's may be a guess made at ticks; the sum is not. */
    CHECK((usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec >
          40000);
}

static void floating_point(void) {
    CHECK(fabs(sin(1.0) * sin(1.0) + cos(1.0) * cos(1.0) - 1.0) < 1e-15);
    CHECK(sqrt(2.0) * sqrt(2.0) > 1.9999999 && pow(2.0, 0.5) == sqrt(2.0) && isinf(1.0 / fabs(0.0 * -1.0)));
    CHECK(strtod("0x1.8p3", 0) == 12.0 && strtold("1e300", 0) == 1e300L);
    volatile double one = 1.0, three = 3.0;
    fesetround(FE_UPWARD);
    volatile double up = one / three;
    fesetround(FE_DOWNWARD);
    volatile double lower = one / three;
    fesetround(FE_TONEAREST);
    CHECK(up > lower);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double zero = 0.0, result = one / zero;
    CHECK(fetestexcept(FE_DIVBYZERO) && isinf(result));
    long double precise = 1.0L + 0x1p-60L;
    CHECK(precise != 1.0L);
}

static void system_information(void) {
    struct utsname name;
    CHECK(uname(&name) == 0 && strcmp(name.sysname, "Linux") == 0 && strcmp(name.machine, "x86_64") == 0);
    CHECK(sysconf(_SC_PAGESIZE) == 4096 && sysconf(_SC_CLK_TCK) == 100);
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PHYS_PAGES) > 1000);
    CHECK(getpagesize() == 4096 && isatty(0) >= 0);
    char host[65];
    CHECK(gethostname(host, sizeof host) == 0);
}

static void shell_commands(void) {
    /* Only where there is a shell. */
    if (access("/bin/sh", X_OK) != 0) {
        CHECK(system(0) == 0 || system(0) == 1);
        return;
    }
    int status = system("exit 7");
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    FILE *f = popen("echo from a shell", "r");
    char line[64] = "";
    CHECK(f && fgets(line, sizeof line, f) && strcmp(line, "from a shell\n") == 0 && pclose(f) == 0);
}

static void exit_handlers(void) {
    int fds[2];
    CHECK(pipe(fds) == 0);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]), close(fds[1]);
        /* Left in the buffer: exit writes it, once. */
        printf("at exit");
        exit(3);
    }
    close(fds[1]);
    char text[32] = "";
    CHECK(read(fds[0], text, sizeof text - 1) == 7 && strcmp(text, "at exit") == 0);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
    close(fds[0]);
}

static int table[] = {1, 2, 3};
static int *relocated = &table[2];
static int (*function)(const char *, ...) = printf;

static void relocations(void) {
    /* In a position-independent program these hold only if somebody relocated them. */
    CHECK(*relocated == 3 && function == printf);
    char *volatile program = (char *)relocations;
    CHECK(program != 0);
}

int main(void) {
    CASE(malloc_stress);
    CASE(sorting);
    CASE(times);
    CASE(floating_point);
    CASE(system_information);
    CASE(shell_commands);
    CASE(exit_handlers);
    CASE(relocations);
    return check_end();
}
