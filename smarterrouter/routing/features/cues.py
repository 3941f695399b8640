"""The words and shapes that speak for a group of prompts: data only, decides nothing.

A ``Cue`` is a named list of phrases (up to four words) with a weight per group. ``LEXICON``
cues may stand anywhere; ``OPENING`` cues count only as the first words of the first or the
last line, where the instruction stands; ``FOREIGN`` cues are substrings, for scripts whose
words are inflected or not spaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cue:
    """Phrases that say the same thing, and what each occurrence adds to each group."""

    name: str
    weights: Mapping[str, float]
    phrases: tuple[str, ...]


def _cue(name: str, phrases: str, **weights: float) -> Cue:
    return Cue(name, weights, tuple(part.strip() for part in phrases.split(",")))


LEXICON: tuple[Cue, ...] = (
    # coding
    _cue(
        "language",
        "python, python3, javascript, typescript, java, kotlin, swift, rust, golang, c++, c#, "
        "php, ruby, perl, haskell, ocaml, scala, lua, matlab, octave, julia, fortran, cobol, "
        "assembly, nasm, vba, vbs, solidity, verilog, systemverilog, vhdl, glsl, hlsl, cuda, "
        "elixir, erlang, clojure, zig, dart, flutter, objective c, in c, c program, c code, "
        "c function, in go, go function, go program, in r, r code, r script, visual basic, "
        "prolog, f#, webassembly, scheme program, racket, common lisp, groovy, delphi, pascal, "
        "hls, arduino, esp32",
        code_write=1.5,
        code_read=0.7,
    ),
    _cue(
        "framework",
        "django, flask, fastapi, react, vue, vue3, angular, svelte, nextjs, next.js, node, "
        "nodejs, express, spring, spring boot, hibernate, jpa, pandas, numpy, pytorch, torch, "
        "tensorflow, keras, jax, sklearn, scikit, scikit learn, streamlit, gradio, seaborn, "
        "matplotlib, plotly, shiny, ggplot, ggplot2, dplyr, opencv, qt, pyqt, tkinter, pygame, "
        "unity, godot, unreal, laravel, rails, jquery, tailwind, bootstrap, docker, "
        "dockerfile, docker compose, kubernetes, terraform, ansible, helm, github actions, "
        "gitlab ci, lambda, boto3, raspberry, wordpress, redis, kafka, graphql, websocket, "
        "websockets, selenium, playwright, scrapy, beautifulsoup, jest, pytest, junit, "
        "langchain, huggingface, opengl, vulkan, webgl, numba, asyncio, pydantic, sqlalchemy, "
        "prisma, electron, android, ios, swiftui, xamarin, asp net, dot net, entity framework, "
        "linq, sap, salesforce, apex, llvm, openmp, mpi, three.js, npm, pip, cargo, yarn, "
        "maven, gradle, webpack, vite, axios, discord bot, telegram bot, nix, cmake, makefile, "
        "latex, ffi, wasm, grpc, protobuf, celery, rabbitmq, spark, airflow",
        code_write=1.1,
        code_read=0.5,
    ),
    _cue(
        "program",
        "code, function, program, method, script, algorithm, implement, implementation, api, "
        "endpoint, rest api, html, css, webpage, web page, web app, website, frontend, "
        "backend, unit test, unit tests, test case, test cases, library, plugin, snippet, cli, "
        "refactor, coding, programming, programmer, bot, scraper, crawler, parser, shader, "
        "widget, compiler, interpreter, decorator, microservice, client library, "
        "neural network, macro, data structure, linked list, binary tree, hash map, hashmap, "
        "binary search, quicksort, web server, http server, chrome extension, game engine, "
        "kernel module, driver, leetcode",
        code_write=0.9,
        code_read=0.5,
    ),
    _cue(
        "programming detail",
        "array, arrays, string, strings, loop, loops, recursion, recursive, variable, "
        "variables, parameter, argument, returns, dict, dictionary, list comprehension, tuple, "
        "integer, integers, boolean, pointer, pointers, thread, threads, mutex, async, await, "
        "promise, callback, closure, generator, iterator, lambda function, generic, interface, "
        "enum, struct, repository, repo, git, pull request, json, csv, xml, stdin, stdout, "
        "file, files, folder, module, config, button, input, output, server, port, image, "
        "pixel, dropdown, navbar, socket, http, url, jwt, oauth, authentication, cache, queue, "
        "dataframe, data frame, dataset, model, tensor, layer, training, train, instance, "
        "object, constructor, schema, app",
        code_write=0.35,
        code_read=0.25,
        data_query=0.1,
    ),
    _cue(
        "something is broken",
        "error, errors, exception, traceback, stack trace, segfault, segmentation fault, bug, "
        "bugs, debug, debugging, warning, crash, crashes, crashing, not working, doesn't work, "
        "does not work, isn't working, won't work, undefined, nullpointerexception, "
        "null pointer, valueerror, typeerror, keyerror, attributeerror, importerror, "
        "indexerror, syntaxerror, runtimeerror, panic, deadlock, memory leak, race condition, "
        "fails, failing, failed, root cause, fehler, fehlermeldung, erreur, fails with, "
        "this code, my code, code review, review this, what's wrong, what is wrong, "
        "doesn't compile, won't compile, broken, stopped working, wrong output, infinite loop, "
        "off by one, hangs, borrow checker, err, cannot, expected, unexpected, unable to, "
        "permission denied, not found, mismatched, deprecated, race here, exit code, throws, "
        "no such file, refused, timed out",
        code_read=1.2,
        code_write=0.1,
    ),
    _cue(
        "reads code",
        "this function, this script, this snippet, this program, this method, this class, "
        "code below, following code, code above, given code, the output of, does it print, "
        "will it print, gets printed, be printed, this code do, time complexity, "
        "space complexity, code smell, dead code, vulnerable, vulnerability, more efficient, "
        "add comments, readability, python function and an assertion, complete the assertion, "
        "provided code, ce code, diesen code, este código, dieser code, diff, pr review, "
        "stack overflow",
        code_read=1.5,
        code_write=0.3,
    ),
    _cue(
        "database",
        "sql, mysql, postgres, postgresql, sqlite, bigquery, mssql, t sql, plsql, mariadb, "
        "duckdb, sparql, cypher, promql, dax, sql query, sql statement, group by, left join, "
        "inner join, foreign key, mongodb, mongo query, aggregation pipeline, kql, "
        "elasticsearch query, stored procedure, window function, databricks, snowflake query, "
        "soql, logql",
        data_query=2.4,
    ),
    _cue(
        "query words",
        "query, queries, database, tables, table with columns, rows, columns, column, "
        "select all, per customer, per month, spreadsheet, pivot table, subquery, index on",
        data_query=0.7,
        formatting=0.1,
    ),
    _cue(
        "pattern language",
        "regex, regexp, regular expression, regulärer ausdruck, expression régulière, xpath, "
        "expresión regular, jq, glob pattern, jsonpath, css selector, excel formula, vlookup, "
        "xlookup, sumif, countif, google sheets, in excel, excel, sumifs, pivot",
        data_query=2.2,
    ),
    _cue(
        "shell",
        "bash, shell, shell command, command line, terminal, one liner, oneliner, powershell, "
        "grep, awk, sed, curl, wget, tar, rsync, chmod, chown, systemctl, systemd, crontab, "
        "cron, cron job, ssh, kubectl, ffmpeg, git command, linux command, unix command, "
        "find command, zsh, cmd, iptables, git rebase, git log, git commit, docker ps, "
        "docker command, apt, dpkg, du, xargs, imagemagick, ubuntu, debian, journalctl, tmux, "
        "linux, bash script, nmap, openssl, listening on, process, processes, stdin, symlink, "
        "disk usage, log files, wsl, homebrew, pipe",
        data_query=1.6,
        code_write=0.3,
    ),
    # reasoning
    _cue(
        "mathematics",
        "equation, equations, integral, integrate, derivative, differentiate, differential, "
        "probability, matrix, matrices, determinant, eigenvalue, eigenvalues, eigenvector, "
        "theorem, lemma, proof, prove, prove that, show that, triangle, circle, rectangle, "
        "radius, diameter, perimeter, circumference, hypotenuse, polygon, polynomial, "
        "quadratic, logarithm, sine, cosine, modulo, gcd, lcm, prime number, prime numbers, "
        "primes, perfect numbers, irrational, converge, converges, convergence, "
        "infinite series, permutations, combinations, variance, standard deviation, "
        "expected value, binomial, factorial, square root, cube root, divisible, divisor, "
        "remainder, digits, arithmetic, algebra, geometry, calculus, trigonometry, solve, "
        "solve for, simplify, factorise, factorize, how many ways, fair coin, dice, evaluate, "
        "significant figures, gleichung, équation, ecuación, calcule, berechne, calcula, "
        "combien, wie viele, wie viel, cuántos, cuántas, cuánto, ableitung, "
        "wahrscheinlichkeit, beweise, démontre, démontrer, demuestra, intégrale, dérivée, "
        "isomorphism, subgroup, continuous on, bijection, injective, vector space, asymptote, "
        "parabola, velocity, acceleration, inequality",
        math=1.4,
    ),
    _cue(
        "quantity",
        "calculate, compute, how many, how much, percent, percentage, fraction, ratio, "
        "average, total, each, per, twice, half, remaining, remains, leftover, dollars, cents, "
        "euros, price, costs, profit, discount, interest rate, compound interest, miles, "
        "kilometers, km, mph, speed, hours, minutes, meters, feet, inches, celsius, "
        "fahrenheit, kg, pounds, liters, litres, gallons, area, volume, angle, sum of, "
        "product of, times as, as many, as much, less than, more than, years old, sold, "
        "bought, earns, spends, gave, altogether, in total, a third, a quarter, three times, "
        "number of, unit price, evenly, dozen, per hour, per day, convert the measurement, "
        "what time, change does, left over, insgesamt, jeweils",
        math=0.45,
    ),
    _cue(
        "puzzle",
        "puzzle, riddle, riddles, brain teaser, brainteaser, deduce, deduction, syllogism, "
        "logical, logically, valid argument, premise, premises, fallacy, fallacies, knight, "
        "knights, knave, knaves, liar, liars, always lies, tells the truth, truth teller, "
        "lying, analogy, odd one out, next number, comes next, come next, next term, "
        "the sequence, sudoku, paradox, lateral thinking, counterexample, entail, entails, "
        "contradiction, rubik's, rubikscube, river crossing, trolley problem, prisoners, "
        "chess, checkmate, tic tac toe, who is lying, must be true, can we conclude, "
        "does it follow, sits next to, sitting, to the left of, to the right of, "
        "immediately left, taller than, shorter than, older than, younger than, faster than, "
        "heavier than, sibling, brothers, sisters, rätsel, énigme, devinette, acertijo, "
        "facing north, turn left, turn right, conclusion follow, crossing the river, "
        "weighings, balance scale, hats, black hat, each statement, only one of, "
        "exactly one of, conclude, what am i, if and only if, boolean expression, truth table, "
        "truth tables, who owns, who finished, same relation, therefore, infer, "
        "tower of hanoi, litre jug, liter jug, shortest, tallest, oldest, youngest, lightest, "
        "truthfully, culprit, guilty, murderer, suspects, clues, lives next to, seating, "
        "alibi, blindfolded, light switches, wolf, fewest weighings, the missing digit",
        logic=1.3,
    ),
    _cue(
        "quantifier",
        "all, some, none, no one, every, if, then, either, neither, nor, unless, same, before, "
        "after, between, next to, behind, true, false, statement, statements, possible, order",
        logic=0.18,
    ),
    _cue(
        "plan",
        "plan, planning, itinerary, schedule, roadmap, road map, timeline, agenda, checklist, "
        "milestones, strategy, meal plan, workout plan, training plan, study plan, curriculum, "
        "syllabus, project plan, business plan, marketing plan, lesson plan, organize, "
        "organise, day trip, road trip, vacation, travel plan, day by day, week by week, "
        "workout routine, action plan, rollout, migration plan, implementation plan, plane, "
        "plan de, planifie, reiseplan, reiseroute, trainingsplan, itinéraire, itinerario, "
        "planifica, zeitplan, prioritize, prioritise, to do list, step plan, budget plan, "
        "go to market, launch plan, workout, routine, phases, project, feasibility, sprint, "
        "learning path, contingency",
        planning=1.5,
    ),
    _cue(
        "plan detail",
        "trip, travel, days, day, week, weeks, weekly, months, weekend, budget, guests, event, "
        "wedding, party, deadline, goals, steps, tasks, team, launch, morning, afternoon, "
        "visit, resources, stakeholders, kids, marathon, exam, moving, renovate, camping, "
        "semester",
        planning=0.35,
        advice=0.1,
    ),
    _cue(
        "architecture",
        "system design, architecture, design a system, scalable, high level design, architect, "
        "workflow, process for, step by step, outline for studying, requirements, "
        "market entry, fault tolerant, requests per second, zero downtime, multi region, "
        "high availability, load balancer, latency, disaster recovery, trade offs, throughput, "
        "infrastructure",
        planning=0.8,
        code_write=0.3,
    ),
    # factual
    _cue(
        "fact question",
        "what is, what's, what are, what was, what were, who is, who was, who wrote, "
        "who invented, who painted, when did, when was, where is, where was, why do, why does, "
        "why is, why are, why did, which country, which planet, how does, how do, how did, "
        "difference between, differences between, define, definition, meaning of, capital of, "
        "history of, tell me about, causes of, facts about, was ist, wer war, wer ist, warum, "
        "wann, qu'est ce, qui est, pourquoi, quelle est, quel est, qué es, quién, cuál es, "
        "por qué, explain, describe, erkläre, explique, explica, compare, what does, how is, "
        "how are, what causes, what happens, in what year, which year, worin, unterschied, "
        "différence, diferencia, explaining, meant by, who discovered, is it true, "
        "overview of, concept of, unterscheidet, stand for, mean",
        knowledge=0.8,
    ),
    _cue(
        "subject matter",
        "history, war, king, empire, president, revolution, century, planet, physics, "
        "chemistry, biology, cell, cells, dna, protein, atom, molecule, quantum, relativity, "
        "photosynthesis, evolution, economics, inflation, gdp, philosophy, religion, "
        "geography, population, capital, country, city, river, mountain, ocean, species, "
        "animal, disease, vaccine, law, theory, constitution, ancient, roman, greek, medieval, "
        "psychology, astronomy, galaxy, black hole, climate, element, energy, invention, "
        "actor, band, album, movie, protocol, hormone, virus",
        knowledge=0.35,
    ),
    _cue(
        "asks for counsel",
        "should i, should we, recommend, recommendation, recommendations, advice, any tips, "
        "tips, tips for, best way to, best practices, how can i, how do i, how should i, "
        "what should i, help me decide, is it safe, is it worth, worth it, "
        "would you recommend, pros and cons, is it ok, is it okay, is it normal, "
        "what would you do, suggestions, any advice, suggest, how to deal, deal with, cope, "
        "coping, which one should, what can i do, how to improve, soll ich, sollte ich, "
        "was soll, empfiehl, empfehlung, tipps, ratschlag, que dois je, devrais je, conseille, "
        "conseils, debería, recomienda, consejos, me recomiendas, kannst du mir empfehlen, "
        "better to, what do you think, how to handle, talk to my, ways to, wie kann ich, "
        "comment puis je, cómo puedo, good idea, how to get, how to stop, how to secure",
        advice=1.3,
    ),
    _cue(
        "own life",
        "i feel, i'm feeling, feeling, anxious, anxiety, stressed, depressed, lonely, worried, "
        "my boss, my manager, my job, my career, my doctor, my girlfriend, my boyfriend, "
        "my wife, my husband, my partner, my friend, my mom, my dad, my parents, my son, "
        "my daughter, my landlord, my neighbor, my neighbour, my dog, my cat, my back, "
        "my knee, coworker, colleague, symptoms, headache, sleep, insomnia, diet, lose weight, "
        "healthy, salary, raise, job offer, quit, career, invest, savings, mortgage, debt, "
        "relationship, breakup, divorce, interview, burnout, motivation, procrastinating, "
        "procrastination, pain, doctor, skin, for beginners, my chef, meine freundin, "
        "mein freund, ma copine, mi novia, mi jefe, retirement, insurance, pregnant, allergy, "
        "fever, toddler, old laptop, used car",
        advice=0.7,
        writing=0.05,
    ),
    _cue(
        "summary",
        "summarise, summarize, summary, summaries, tl dr, tldr, key points, main points, "
        "main idea, key takeaways, takeaways, condense, recap, in a nutshell, gist, the gist, "
        "boil down, zusammenfassung, zusammenfassen, fasse, fass, résume, résumer, résumé de, "
        "resume este, resumen, resumir, résumez, the following article, sum up, main argument, "
        "executive summary, abstract, meeting notes, minutes of the meeting, in one sentence, "
        "in three sentences, briefly what, bullet summary, main themes, riassumi, resuma",
        summarising=2.0,
    ),
    _cue(
        "extraction",
        "extract, find all, list all, identify, identify all, pull out, named entity, "
        "named entities, entities, classify, classification, categorize, categorise, "
        "sentiment, keywords, positive or negative, spam, toxic, label the, tag the, detect, "
        "output 1, mentioned in, according to the text, according to the passage, "
        "according to the article, based on the text, based on the passage, "
        "based on the context, from the text, from this text, from the following, in the text, "
        "in the passage, in the paragraph, in the sentence, answer the question based, "
        "given the following, passage, claim, extrahiere, extrais, extrae, "
        "positive negative or neutral, from this email, from this invoice, from the email, "
        "phone numbers, email addresses, which of these, context, pick out, does the text, "
        "the document, does the sentence, from the list, topic of, choose a topic, "
        "is this review, categories, part of speech, the nouns, the verbs, the adjectives, "
        "all dates, all names, due date, return only, output only, spam or not, mentioned, "
        "is this message, is this tweet, is this comment, fill the fields",
        extraction=1.0,
    ),
    _cue(
        "translation",
        "translate, translated, translation, translating, translator, how do you say, "
        "how to say, übersetze, übersetzen, übersetzung, traduis, traduire, traduction, "
        "traduisez, traduce, traducir, traducción, traduza, traduz, traduci, tradurre, say in, "
        "auf deutsch, auf englisch, en anglais, en français, en inglés, en español, vertaal, "
        "into english",
        translation=2.4,
    ),
    _cue(
        "human language",
        "english, german, french, spanish, italian, portuguese, dutch, polish, russian, "
        "ukrainian, chinese, mandarin, cantonese, japanese, korean, arabic, hebrew, turkish, "
        "hindi, bengali, urdu, vietnamese, thai, indonesian, swedish, norwegian, danish, "
        "finnish, czech, greek, hungarian, romanian, latin, swahili, catalan, persian, farsi, "
        "tagalog, esperanto, deutsch, englisch, französisch, spanisch, anglais, allemand, "
        "espagnol, inglés, francés, alemán",
        translation=0.7,
    ),
    _cue(
        "into a language",
        "in english, in german, in french, in spanish, in italian, in portuguese, in chinese, "
        "in japanese, in korean, in arabic, in russian, in dutch, in polish, in hindi, "
        "in turkish, to english, to german, to french, to spanish, to italian, to portuguese, "
        "to chinese, to japanese, to korean, to arabic, to russian, into german, into french, "
        "into spanish, into italian, into portuguese, into chinese, into japanese, "
        "into korean, into arabic, into russian, from english, from german, from french, "
        "from spanish, from japanese, ins deutsche, ins englische, ins französische, "
        "ins spanische, al inglés, al español, al francés, al alemán, vers l'anglais, "
        "to latin, into latin, into dutch, into polish, mean in english, mean in german, "
        "mean in french, mean in spanish, mean in",
        translation=1.0,
    ),
    _cue(
        "format",
        "reformat, format, formatted, markdown, markdown table, as a table, into a table, "
        "to json, into json, as json, json format, json object, to yaml, as yaml, to csv, "
        "as csv, to xml, to markdown, to html, bullet list, bullet points, as bullets, "
        "numbered list, uppercase, lowercase, title case, capitalize, camelcase, snake case, "
        "alphabetical order, alphabetically, sort the, sort this, sort these, "
        "remove duplicates, deduplicate, latex table, as a list, comma separated, iso 8601, "
        "date format, valid json, bibtex, apa format, formatiere, tabelle, als tabelle, "
        "tableau, tabla, une liste, as latex, pretty print, indent, clean up, put this, "
        "put these, restructure, with headings, tidy up",
        formatting=1.3,
    ),
    _cue(
        "proofreading",
        "fix the grammar, grammar, spelling, typos, punctuation, proofread, misspelled, "
        "misspelling, correct the, grammatical errors, rechtschreibung, grammatik, "
        "orthographe, gramática, korrigiere, corrige, replace all, replace the, fill in the",
        formatting=1.0,
        writing=0.9,
    ),
    # creativity
    _cue(
        "literary form",
        "story, stories, short story, poem, poems, poetry, haiku, limerick, sonnet, ballad, "
        "ode, lyrics, song, rap, verse, novel, novella, fairy tale, fable, bedtime story, "
        "screenplay, monologue, dialogue, plot, protagonist, villain, fiction, sci fi, "
        "science fiction, fantasy, joke, jokes, pun, puns, parody, satire, satirical, "
        "metaphor, rhyme, rhyming, stanza, flash fiction, opening line, first chapter, "
        "chapter, plot twist, creative, gedicht, geschichte, märchen, poème, histoire, "
        "chanson, conte, poema, cuento, historia, canción, roman, witz, blague, chiste, "
        "melody, chord progression, worldbuilding, world building, dnd, rpg, d&d, "
        "campaign setting, backstory, tall tale, comic, myth, legend, horror",
        writing=1.7,
    ),
    _cue(
        "prose form",
        "essay, email, e mail, letter, cover letter, blog, blog post, article, speech, toast, "
        "slogan, slogans, tagline, headline, headlines, caption, captions, tweet, tweets, "
        "ad copy, product description, press release, newsletter, linkedin post, instagram, "
        "facebook post, eulogy, invitation, thank you note, apology, complaint, memo, "
        "testimonial, bio, biography, proposal, resume, cv, conversation, recipe, quiz, "
        "exam question, background section, user stories, advertisement, vows, obituary, "
        "anecdote, paragraphs, compliment, chat up line, whitepaper, introduction, "
        "literature review, script for, video script, podcast, brand name, names for, "
        "name for, brainstorm, ideas for, title, titles, aufsatz, brief an, bewerbung, "
        "anschreiben, rédige, lettre, courriel, carta, correo, ensayo, discurso, sales pitch, "
        "pitch, elevator pitch, recommendation letter, fundraising, job description, "
        "job posting, personal statement, greeting card, conversation between, "
        "write a conversation",
        writing=1.0,
    ),
    _cue(
        "rewording",
        "rewrite, reword, rephrase, paraphrase, paraphrasing, more formal, more polite, "
        "politely, polite, friendlier, professional tone, sound more, sounds more, tone, "
        "in the style of, persuasive, catchy, humorous, funny, witty, more concise, "
        "more engaging, umformulieren, formuliere, reformule, reformular, make it sound, "
        "less formal, more casual, polish",
        writing=1.2,
    ),
    _cue(
        "role",
        "roleplay, role play, role playing, roleplaying, in character, stay in character, "
        "as if you were, as if you are, imagine you are, imagine that you are, "
        "imagine yourself, embody, pretend, pretend you are, pretend to be, pretend you're, "
        "speak like, talk like, respond like, answer as, respond as, reply as, dungeon master, "
        "game master, persona, take on the role, play the role, let's play, i'll be the, "
        "i will be the, your name is, you play, text adventure, interrogate me, "
        "interview me as, act like, you're playing, rollenspiel, tu so, tu es un, tu es une, "
        "fais comme si, du bist ein, du bist eine, eres un, eres una, spiel die rolle, spiele, "
        "joue le rôle, actúa como, finge, in the voice of, suppose you are, "
        "assume the persona, you are now, in first person as, break character, greet me as, "
        "from now on, be my, you'll be my, play my",
        roleplay=1.7,
    ),
    _cue(
        "role taken",
        "act as, acting as, you are a, you are an, you're a, you're an, as a, your role",
        roleplay=0.5,
    ),
    _cue(
        "figure",
        "pirate, wizard, vampire, detective, sherlock holmes, gandalf, yoda, shakespeare, "
        "batman, knight in, medieval knight, tavern, bartender, captain, alien, dragon, elf, "
        "goblin, witch, ghost, robot, princess, queen, sorcerer, villager, shopkeeper, grumpy, "
        "sarcastic, therapist, socrates, einstein, napoleon, cleopatra, darth vader, hogwarts, "
        "innkeeper, butler, cowboy, samurai, viking, ninja, zombie, superhero, stone age, "
        "caveman, iron man, elon musk, chef",
        roleplay=0.55,
        writing=0.35,
    ),
    _cue(
        "assistant boilerplate",
        "helpful assistant, you are a helpful, ai assistant, helpful ai, language model, "
        "an expert, expert in, senior, world class, world renown, professional, specialist, "
        "experienced",
        roleplay=-0.9,
    ),
)

OPENING: tuple[Cue, ...] = (
    _cue(
        "ask a fact",
        "what, whats, who, when, where, which, was, wer, wann, wo, qui, quand, où, qué, quién, "
        "cuándo, dónde, is, are, did, name",
        knowledge=0.7,
    ),
    _cue(
        "continue",
        "continue, finish",
        writing=0.9,
    ),
    _cue(
        "be somebody",
        "from now on, be my, you'll be",
        roleplay=1.2,
    ),
    _cue(
        "choose",
        "list, find, select, given, decide, choose, determine",
        extraction=0.6,
    ),
    _cue(
        "design",
        "design, devise",
        planning=0.7,
        code_write=0.3,
    ),
    _cue(
        "code verb",
        "implement, code, program, build, develop, refactor, port",
        code_write=1.0,
    ),
    _cue(
        "make",
        "create, generate, make, produce, provide, give, show, come up, erstelle, crée, crea",
        code_write=0.3,
        writing=0.45,
        planning=0.2,
    ),
    _cue(
        "write",
        "write, schreib, schreibe, écris, écrire, escribe, escriu, scrivi, draft, compose, "
        "craft, rédige, redacta, verfasse, reply, respond",
        writing=0.9,
        code_write=0.35,
    ),
    _cue(
        "repair",
        "fix, debug, review, optimize, optimise, troubleshoot, correct, why, improve",
        code_read=0.5,
        formatting=0.1,
    ),
    _cue(
        "explain",
        "explain, describe, define, discuss, compare, tell, why, erkläre, explique, explica",
        knowledge=0.7,
    ),
    _cue(
        "solve",
        "solve, calculate, compute, evaluate, prove, find, determine, simplify, convert, löse, "
        "résous, calcule, resuelve, berechne",
        math=0.7,
    ),
    _cue(
        "plan it",
        "plan, organize, organise, schedule, plane, planifie, planifica, outline",
        planning=1.2,
    ),
    _cue(
        "counsel",
        "how, should, recommend, suggest, advise, can i, is it, which",
        advice=0.45,
        knowledge=0.2,
    ),
    _cue(
        "shorten",
        "summarize, summarise, tldr, tl, condense, summary, fasse, résume, resume",
        summarising=1.8,
    ),
    _cue(
        "pick out",
        "extract, identify, classify, detect, label, tag, categorize, categorise, highlight, "
        "extrahiere, extrais, extrae",
        extraction=2.0,
    ),
    _cue(
        "carry over",
        "translate, übersetze, traduis, traduce, traduisez, vertaal, traduci, traduza, translation",
        translation=2.5,
    ),
    _cue(
        "reshape",
        "convert, reformat, format, sort, turn, arrange, capitalize, replace, put, transform, "
        "formatiere, convertis, convierte, reorganize",
        formatting=1.0,
    ),
    _cue(
        "reword it",
        "rewrite, rephrase, reword, paraphrase, proofread, edit, shorten, expand",
        writing=1.1,
        formatting=0.3,
    ),
    _cue(
        "play",
        "pretend, roleplay, act, imagine, you're, you are, simulate, let's play",
        roleplay=0.7,
    ),
    _cue(
        "bare quantity",
        "how many, how much, what time",
        math=0.9,
    ),
    _cue(
        "bare condition",
        "if, suppose, assume, three, two, four, five, there are, all",
        math=0.3,
        logic=0.5,
    ),
)

FOREIGN: tuple[Cue, ...] = (
    _cue(
        "code",
        "代码, 函数, 编程, 程序, 脚本, コード, 関数, код, функци, программ, скрипт, 코드, 함수",
        code_write=1.6,
        code_read=0.5,
    ),
    _cue(
        "broken",
        "报错, 错误, 调试, エラー, バグ, ошибк, не работает, исправ, 오류",
        code_read=1.3,
    ),
    _cue(
        "query",
        "查询, 数据库, 正则, 命令, 正規表現, запрос, базы данных, регулярн, команд",
        data_query=1.5,
    ),
    _cue(
        "mathematics",
        "计算, 多少, 方程, 证明, 求解, 概率, 積分, 积分, 計算, いくつ, いくら, сколько, реши, "
        "вычисл, уравнени, докажи, вероятност, 몇",
        math=1.6,
    ),
    _cue(
        "puzzle",
        "谜语, 推理, 逻辑, なぞなぞ, 論理, загадк, логическ, головоломк",
        logic=1.8,
    ),
    _cue(
        "plan",
        "计划, 行程, 安排, 规划, 計画, 旅程, план, маршрут, расписани, 계획",
        planning=1.7,
    ),
    _cue(
        "fact",
        "什么, 是谁, 为什么, 哪个, 解释, 介绍, 何ですか, とは, なぜ, 説明, что такое, кто, "
        "почему, когда, объясни, расскажи, столица, 무엇, 왜",
        knowledge=1.1,
    ),
    _cue(
        "counsel",
        "建议, 应该, 推荐, 怎么办, アドバイス, おすすめ, べき, посовет, стоит ли, как мне, "
        "рекоменд, 추천",
        advice=1.6,
    ),
    _cue(
        "summary",
        "总结, 概括, 摘要, 要約, まとめ, кратко, резюмир, суммир, перескажи, 요약",
        summarising=2.0,
    ),
    _cue(
        "extraction",
        "提取, 分类, 抽出, 分類, извлек, классифиц, 추출",
        extraction=1.8,
    ),
    _cue(
        "translation",
        "翻译, 译成, 翻訳, перевед, перевод, переклад, 번역, ترجم, अनुवाद",
        translation=2.6,
    ),
    _cue(
        "format",
        "格式, 表格, 转换成, 表に, 形式に, таблиц, отформатир, преобразуй",
        formatting=1.6,
    ),
    _cue(
        "writing",
        "故事, 诗, 作文, 小说, 邮件, 文章, 物語, 俳句, 小説, メール, 手紙, стих, рассказ, "
        "сказк, письмо, сочинени, эссе, 이야기, 시를, 写一篇, 写一首, 写一封",
        writing=1.9,
    ),
    _cue(
        "role",
        "扮演, 假装, 你现在是, ふりをして, になりきって, ロールプレイ, притворись, представь, "
        "сыграй роль, в роли, ты —",
        roleplay=2.4,
    ),
)

BIAS: Mapping[str, float] = {"knowledge": 0.45, "advice": 0.1, "code_write": 0.05}
