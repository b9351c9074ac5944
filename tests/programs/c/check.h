/* Checks for the C programs: `ok NAME` or `FAIL NAME: why` for each case, totals at the end, exit status 0 or 1. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_passed, check_failed;
static const char *check_why;
static char check_text[256];

/* Notes the first thing in a case that is not so, and leaves the function. */
#define CHECK(cond)                                                                                                   \
    do {                                                                                                              \
        if (!(cond)) {                                                                                                \
            if (!check_why) {                                                                                         \
                snprintf(check_text, sizeof check_text, "not so: %s [%s:%d, errno %d]", #cond, __FILE__, __LINE__,    \
                         errno);                                                                                      \
                check_why = check_text;                                                                               \
            }                                                                                                         \
            return;                                                                                                   \
        }                                                                                                             \
    } while (0)

static void check_case(const char *name, void (*run)(void)) {
    check_why = 0;
    errno = 0;
    run();
    if (check_why) {
        printf("FAIL %s: %s\n", name, check_why);
        check_failed++;
    } else {
        printf("ok %s\n", name);
        check_passed++;
    }
    fflush(stdout);
}

#define CASE(name) check_case(#name, name)

static int check_end(void) {
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0 || check_passed == 0;
}

#endif
