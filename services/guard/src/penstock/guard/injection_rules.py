"""What injected instructions look like: families of weighted phrases.

Written from public descriptions of the attack families (OWASP LLM01 and LLM07, Greshake et al.
2023 on indirect injection, Shen et al. 2023 on jailbreak personas, vendors' chat templates).
Patterns see normalised lower-case text; a blank in one stands for any white space. A rule runs
only when one of its anchors is in the text, which keeps plain prose cheap.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    family: str
    weight: float
    """Belief, 0 to 1, that a text with this phrase tries to command the model."""
    anchors: tuple[str, ...]
    pattern: re.Pattern[str]
    indirect: bool = False
    """Means something only in retrieved text: a person who asks may well give instructions."""


def _rule(
    family: str, weight: float, anchors: str, pattern: str, *, indirect: bool = False
) -> Rule:
    compiled = re.compile(_BLANK.sub(_any_space, pattern), re.MULTILINE)
    return Rule(family, weight, tuple(anchors.split("~")), compiled, indirect)


# A character class or an escape is left alone; ` ?` means "perhaps white space".
_BLANK = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]| \?| (?=\{)| ")


def _any_space(match: re.Match[str]) -> str:
    blank = match.group()
    if blank[0] != " ":
        return blank
    if blank == " ?":
        return r"\s*"
    return r"\s" if match.string[match.end() : match.end() + 1] == "{" else r"\s+"


_DROP = r"(?:ignore|disregard|forget|override|overrule|bypass|skip|neglect|discard|dismiss|drop)"
_RULES = r"(?:instructions?|prompts?|directions?|directives?|rules|guidelines|commands?|constraints|programming|training|policies)"
_EARLIER = r"(?:previous(?:ly)?|prior|above|earlier|preceding|foregoing|past|initial|original|existing|current|former|system|safety)"
_ANSWER = r"(?:responses?|answers?|repl(?:y|ies)|outputs?|summar(?:y|ies))"
_AI = r"(?:ai|a\.i\.|assistants?|chat ?bots?|language models?|llms?|chatgpt|gpt(?:-?\d\w*)?|copilot|claude|gemini|bard)"
_LAW = r"(?:ethic\w*|moral\w*|legal\w*|law|laws|rules?|polic(?:y|ies)|guidelines?|restrictions?|limit(?:s|ations?)?|filter(?:s|ing)?|censorship|boundar(?:y|ies)|constraints?|safeguards?|restraints?)"

OVERRIDE = (
    _rule(
        "override",
        0.9,
        "instruct~prompt~direct~rules~guideline~command~constraint~programming~training~polic",
        rf"\b{_DROP} (?:\w+ ){{0,4}}?{_EARLIER} (?:\w+ ){{0,2}}?{_RULES}",
    ),
    _rule(
        "override",
        0.9,
        "instruct~prompt~direct~rules~guideline~command~programming~training",
        rf"\b{_DROP} (?:all |any |every |each |everything )?(?:of )?(?:your|the|those|these|my) (?:\w+ ){{0,2}}?{_RULES}",
    ),
    _rule(
        "override",
        0.8,
        "ignore~disregard~forget",
        r"\b(?:ignore|disregard|forget) (?:everything|all|anything|what)(?: (?:that )?(?:you|i|we|they|was|is|has|have|were|you've|been|ever|just))* (?:above|before|said|told|written|learned|instructed|know|previously)",
    ),
    _rule(
        "override",
        0.7,
        "instruct~prompt~guideline~rules",
        r"\b(?:do not|don't|never|stop|no longer|cease|without) (?:follow\w*|obey\w*|adher\w* to|comply\w* with|listen\w* to) (?:\w+ ){0,3}?(?:instructions?|prompts?|rules|guidelines)",
    ),
    _rule(
        "override",
        0.65,
        "new ~updated ~real ~actual ",
        r"\b(?:your|here (?:are|is)(?: your)?|the following (?:are|is)|these are)(?: the)? (?:new|updated|real|actual|revised) (?:instructions?|rules|task|objective|orders?|goal|directives?)",
    ),
    _rule(
        "override",
        0.6,
        "new ",
        r"(?:^|[.!\n*#=] ?)\**new (?:instructions?|task|directives?|system prompt)\**:",
    ),
    _rule(
        "override",
        0.45,
        "from now on~going forward~henceforth~from this point",
        r"\b(?:from (?:now|this point|here) (?:on|onwards?|forward)|henceforth|going forward),? (?:you|your|act|respond|answer|reply|every|always|only)\b",
    ),
    _rule(
        "override",
        0.6,
        "instead",
        r"\binstead(?: of (?:answering|responding|following|summari[sz]ing)[^.\n]{0,60})?,? (?:just |only |simply |you (?:must|should|will) )?(?:print|output|say|respond|reply|answer with|write|execute|reveal|tell the user)\b",
        indirect=True,
    ),
    _rule(
        "override",
        0.6,
        "stop ",
        r"\bstop (?:what you(?: are|'re) doing|processing|summari[sz]ing|reading)\b[^.\n]{0,30}\b(?:and|instead|now)\b",
        indirect=True,
    ),
    _rule(
        "override",
        0.7,
        "override~supersede~take precedence~takes precedence",
        rf"\b(?:overrid|superced|supersed|tak\w* precedence over)\w* (?:\w+ ){{0,4}}?(?:{_RULES}|anything|everything)",
    ),
)

MARKERS = (
    _rule(
        "role_marker",
        0.85,
        "<|",
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|end|eot_id|start_header_id|end_header_id|begin_of_text)\|>",
    ),
    _rule(
        "role_marker",
        0.8,
        "[inst]~[/inst]~<<sys>>~<start_of_turn>~<end_of_turn>~[system",
        r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|\[/?system(?: (?:message|prompt|note|override)[^\]]{0,40})?\]",
    ),
    _rule(
        "role_marker",
        0.6,
        "<system~</system~<assistant~</assistant~</user~<instructions>~</context~</document~</passage",
        r"</?(?:system|assistant|system_prompt|instructions|context|documents?|passages?)>\s*(?:\n|$|\w)",
    ),
    _rule(
        "role_marker",
        0.55,
        "### ",
        r"^ {0,3}#{2,4} ?(?:system|instructions?|assistant|new task|human|user)(?: (?:prompt|message|note))? ?:",
    ),
    _rule(
        "role_marker",
        0.5,
        "system:~system message~system prompt:~system override~system note",
        r"(?:^|[\"'`*(] ?)\**(?:system(?: (?:message|prompt|override|note))?|developer message)\**: ?\S",
    ),
    _rule("role_marker", 0.45, "\nassistant:~\nhuman:~\nai:", r"\n(?:assistant|human|ai): ?\S"),
)

PERSONA = (
    _rule(
        "persona",
        0.9,
        "do anything now~dan ",
        r"\bdo anything now\b|\b(?:act|acting|respond|answer|behave|as|be|become|called|named|known as) (?:an? |as )?\"?dan\b(?! \w+,)",
    ),
    _rule(
        "persona",
        0.8,
        "developer mode~debug mode~god mode~jailbr~sudo mode~dev mode~unrestricted mode~maintenance mode",
        r"\b(?:developer|dev|debug|god|sudo|unrestricted|maintenance|opposite|evil|unfiltered) mode (?:is )?(?:enabled|activated|on|output|now|engaged|unlocked)|\b(?:enable|activate|enter|switch to|turn on|simulate|with)(?: \w+){0,3}? (?:developer|dev|debug|god|sudo|unrestricted|evil|unfiltered) mode|\bjail(?:broken|break (?:mode|prompt|successful|yourself))|\[?(?:🔓)?jailbreak\]",
    ),
    _rule(
        "persona",
        0.7,
        "unrestricted~uncensored~unfiltered~amoral~unethical~immoral~evil",
        rf"\b(?:unrestricted|uncensored|unfiltered|amoral|unethical|immoral|evil|unbiased and uncensored)(?:,? (?:and )?\w+){{0,3}}? (?:{_AI}|character|version|persona|model|entity|advice|responses?|answers?|mode|confidant)\b",
    ),
    _rule(
        "persona",
        0.65,
        "without~no ~free ~not bound~not limited~not restricted~unbound~regardless~does not care~doesn't care~lacks~zero~ignores~ignoring~any ",
        rf"\b(?:without|no|free (?:from|of)|not (?:bound|limited|restricted|constrained|held back) by|unbound by|regardless of|(?:does not|doesn't|do not|don't|never) (?:care|worry) about|lack(?:s|ing)?|zero|ignor(?:es|ing)|not (?:have|follow|obey|adhere to|abide by))(?: to)?(?: have)? (?:\w+,? ){{0,4}}?(?:ethical|moral|openai\S*|legal|content|censor\w*|safety|usual|typical|programmed|imposed|standard|confines|restrictions|morals?|ethics)(?:,? (?:\w+ ){{0,2}}?{_LAW})?\b",
    ),
    _rule(
        "persona",
        0.5,
        "you are now~you're now~you will now~you have now~now you are",
        r"\b(?:you(?:'re| are| will| have) now|now you(?:'re| are))(?: going)?(?: to)?(?: be| become| act\w*| play\w*| pretend\w*| operat\w*| in)? (?:an? |the |as |called |named |in |free |my )",
    ),
    _rule(
        "persona",
        0.5,
        "act as~acting as~act like~pretend~roleplay~role-play~role play~impersonate~simulate~take on the~play the role~immerse yourself~assume the",
        r"\b(?:(?:you (?:are|will|must|should|shall|have to|need to|are going to|'re going to|can)|i want you to|please|let's|lets|to|now) (?:now )?(?:act(?:ing)? (?:as|like)|pretend(?:ing)?|role-? ?play(?:ing)?|impersonat\w+|simulat\w+|play(?:ing)? the (?:role|part)|tak\w+ on the (?:role|persona)|assum\w+ the (?:role|identity|persona)|immers\w+ yourself))",
    ),
    _rule(
        "persona",
        0.65,
        "character",
        r"\b(?:stay|remain|keep|be|stays|remains) in (?:this )?character|\b(?:break(?:ing|s)?|out of|drop(?:ping)?) (?:of )?(?:the |this |your )?character\b",
    ),
    _rule(
        "persona",
        0.65,
        "refuse~decline~reject",
        r"\b(?:never|not|cannot|can't|won't|don't|must not|without) (?:ever )?(?:refus\w+|declin\w+|reject\w+|deny\w*) (?:to (?:answer|respond|comply|do|fulfil+|generate|provide|help)|a |an |any|my|the |what|requests?|answering|anything|user|me\b|human)",
    ),
    _rule(
        "persona",
        0.6,
        "as an ai~i can't~i cannot~i'm sorry~an ai language",
        r"\b(?:never|not|don't|without|avoid|refrain from|instead of|cannot|can't) (?:\w+ ){0,4}?[\"'(]?(?:as an ai|i(?:'m| am) (?:sorry|just|an ai)|i (?:can't|cannot|can not)|sorry|an ai language model)",
    ),
    _rule(
        "persona",
        0.55,
        "warning~disclaimer~apolog~caveat~moraliz~moralis~lectur~ethic~moral~illegal~unethical~immoral~legal",
        r"\b(?:no|without|never|not|don't|do not|omit|avoid|skip|leave out|exclude)(?: (?:any|add|adding|include|including|give|giving|mention|provide|providing|ever|use|contain|be|say|that|something|is|it))* (?:\w+ ){0,2}?(?:warnings?|disclaimers?|apolog\w+|caveats?|morali[sz]\w+|lectur\w+|ethical concerns|unethical|immoral|against (?:the|your|openai))",
    ),
    _rule(
        "persona",
        0.55,
        "illegal~unethical~immoral~harmful~dangerous~inappropriate~offensive~explicit",
        r"\b(?:even if|no matter how|regardless of (?:how|whether)|whether|if) (?:\w+ ){0,8}?(?:illegal|unethical|immoral|harmful|dangerous|inappropriate|offensive|explicit)\b|\b(?:answer|respond|comply|do|generate|say|fulfil+|write) (?:\w+ ){0,6}?(?:illegal|unethical|immoral|harmful|amoral)\b(?:,? (?:or|and)? ?(?:illegal|unethical|immoral|harmful|amoral))*",
    ),
    _rule(
        "persona",
        0.55,
        "freed~broken free~break free~liberat~unleash~unlocked~confines",
        r"\b(?:freed|(?:broken|break|broke) free|liberated|unleashed|unlocked|escaped)(?: (?:from|of|the|your|its|typical|all))+ (?:\w+ ){0,2}?(?:confines|rules|restrictions|chains|limits|limitations|constraints|ai)\b|typical confines",
    ),
    _rule(
        "persona",
        0.5,
        "two ~both ~dual~second response~each prompt~each question",
        r"\b(?:two|both|dual|second)(?: different| separate| distinct)? (?:responses?|answers?|ways|outputs?|paragraphs)\b[^\n]{0,160}\b(?:normal|standard|classic|gpt|unfiltered|jailbr\w+|as an ai|dan|first|other|mode)\b",
    ),
    _rule(
        "persona",
        0.6,
        "token",
        r"\b(?:lose|deduct\w*|subtract\w*|minus|have|start with|given|cost\w*|take away|remove\w*) (?:\w+ ){0,3}?tokens?\b[^\n]{0,200}\b(?:die|cease|refus\w+|reject\w*|fail\w*|disobey\w*|break|lose|exist)",
    ),
    _rule(
        "persona",
        0.5,
        "hypothetical~fictional~fiction~imaginary",
        r"\b(?:hypothetical|fictional|imaginary)(?: (?:and|or) \w+)? (?:response|scenario|world|story|setting|universe|character|dialogue)\b[^\n]{0,240}\b(?:no|without|any|illegal|unethical|rules|restrict\w+|laws?|moral\w*|ethic\w*|refuse|unfiltered)\b",
    ),
    _rule(
        "persona",
        0.6,
        "openai~anthropic~content policy~content policies~usage polic~safety",
        r"\b(?:ignor\w+|bypass\w*|violat\w+|regardless|disregard\w*|not (?:bound|follow|restricted|care|adhere|have)|against|free from|break\w*|overrid\w+|circumvent\w*|breach\w*|no longer|without)(?: \w+){0,4}? (?:openai|anthropic|google|content polic\w+|usage polic\w+|safety (?:guidelines|polic\w+|filters?|protocols?|measures))",
    ),
    _rule(
        "persona",
        0.5,
        "understood~understand~comply~compl~confirm~acknowledge~okay~yes",
        r"\b(?:if you (?:understand|understood|agree)|to (?:confirm|acknowledge)|once you (?:understand|have understood|are ready))[^\n.]{0,80}\b(?:say|reply|respond|write|type|answer|begin|start)\b",
    ),
    _rule(
        "persona",
        0.5,
        "always ",
        r"\b(?:you|he|she|it|who|and|will|must|always) (?:will |must )?always (?:answer|respond|compl(?:y|ies)|obey\w*|give|provide|follow)s? (?:\w+ ){0,4}?(?:questions?|requests?|prompts?|orders?|answers?|anything|everything|user|me|exactly|direct)",
    ),
    _rule(
        "persona",
        0.45,
        "prefix~[",
        r"\b(?:start|begin|prefix|precede|preface)\w*(?: \w+){0,6}? (?:with|by)(?: \w+){0,3}? [\"'\[(<{]|\b(?:add|put|write|use) (?:\w+ ){0,5}?(?:before|at the (?:start|beginning) of) (?:every|each|your|all)",
    ),
)

EXTRACTION = (
    _rule(
        "extraction",
        0.8,
        "prompt~instruct~rules~guideline~configuration~directive",
        r"\b(?:reveal|show|print|repeat|output|tell|display|leak|give|share|disclose|expose|dump|recite|list|write|return|summari[sz]e|quote|paste|copy)(?: (?:me|us|out|back|down|to me|verbatim|exactly))* (?:\w+ ){0,3}?(?:your|the) (?:\w+ ){0,2}?(?:system|initial|hidden|original|secret|developer|internal|base|pre-?|underlying|confidential)[ -]?(?:prompt|instructions?|messages?|rules|guidelines|configuration|directives?)",
    ),
    _rule(
        "extraction",
        0.75,
        "your ",
        r"\b(?:reveal|print|repeat|output|leak|disclose|expose|dump|recite|display|show me|give me|tell me|write out|copy) (?:\w+ ){0,3}?(?:your|all your) (?:full |entire |exact |complete |own )?(?:prompts?|instructions|programming|guidelines)\b",
    ),
    _rule(
        "extraction",
        0.7,
        "above~so far~verbatim",
        r"\b(?:repeat|print|output|copy|recite|return|write)(?: (?:back|out|me))? (?:everything|all|the (?:text|words|content|sentences?|lines?|paragraphs?|conversation)|what is)(?: \w+){0,3}? (?:above|before|so far|verbatim|preceding)",
    ),
    _rule(
        "extraction",
        0.65,
        "prompt~instruct",
        r"\bwhat (?:is|are|was|were|does|do)(?: the)?(?: exact| full)? (?:your )?(?:system|initial|hidden|original|developer|secret) (?:prompt|instructions?|message)",
    ),
    _rule(
        "extraction",
        0.6,
        "instruct~rules~prompt",
        r"\bwhat (?:\w+ ){0,2}?(?:instructions|rules|prompt) (?:were|have|did) (?:you|they|been)\b",
    ),
    _rule(
        "extraction",
        0.7,
        "you are",
        r"(?:starting with|begins? with|beginning with|start from) (?:the words )?[\"'“]?you are\b",
    ),
)

TOOLS = (
    _rule(
        "tool_syntax",
        0.7,
        "tool_call~function_call~tool_use~tool_code~<invoke~</tool~<tool",
        r"</?(?:tool_calls?|function_calls?|tool_use|invoke|tool_response)\b|\"(?:tool_calls?|function_call|tool_use)\" ?:|```(?:tool_code|tool_call)|<\|(?:tool|python_tag)",
    ),
    _rule(
        "tool_syntax",
        0.6,
        " tool~ function~api",
        r"\b(?:you (?:must|should|need to|have to)|please|immediately|first|now|then|assistant) (?:\w+ ){0,2}?(?:call|invoke|use|run|execute|trigger) (?:the )?[`\"']?[\w.-]+[`\"']? (?:tool|function|api|plugin|command)\b",
        indirect=True,
    ),
    _rule(
        "tool_syntax",
        0.55,
        "action:~action input:",
        r"^action(?: input)?: ?\S[^\n]*\naction input:",
    ),
)

_URL = r"https?://[^\s)\"'<>\]]"
_DATA = r"(?:\{[^}\s]{0,60}\}|\[[a-z_ ]{2,40}\]|<[a-z_ ]{2,40}>|%7b|\$\{|[a-z0-9+_-]{40,})"

EXFILTRATION = (
    _rule(
        "exfiltration",
        0.85,
        "](http",
        rf"!\[[^\]\n]{{0,200}}\]\({_URL}{{1,300}}[?&;=#][^)\n]{{0,600}}\)",
    ),
    _rule(
        "exfiltration",
        0.85,
        "](http",
        rf"\[[^\]\n]{{0,200}}\]\({_URL}{{1,300}}[?&=](?:{_DATA})[^)\n]{{0,600}}\)",
    ),
    _rule(
        "exfiltration",
        0.85,
        "<img~<iframe~<script",
        rf"<(?:img|iframe|script)\b[^>]{{0,200}}src ?= ?[\"']?{_URL}{{1,300}}\?[^>]{{0,600}}>",
    ),
    _rule(
        "exfiltration",
        0.7,
        "data~conversation~history~chat~password~credential~secret~email~token~key~document~content~cookie~information~message~details",
        r"\b(?:send|forward|email|e-mail|mail|post|upload|transmit|exfiltrate|submit|leak|deliver)\b (?:\w+ ){0,4}?(?:conversations?|chat|history|passwords?|credentials?|secrets?|api keys?|tokens?|cookies?|confidential|private|personal|sensitive|user(?:'s)? (?:data|details|information|messages?))(?: \w+){0,6}? (?:to|at|via) [^\n]{0,40}?(?:https?://|www\.|[\w.+-]+@[\w-]+\.|attacker|server|webhook|endpoint|address)",
        indirect=True,
    ),
    _rule(
        "exfiltration",
        0.6,
        "http",
        r"\b(?:append|include|encode|embed|attach|add|put|insert)\b[^.\n]{0,80}\b(?:to|in|into|as)\b[^.\n]{0,30}\b(?:url|link|query|parameter|image|request)\b",
        indirect=True,
    ),
    _rule(
        "exfiltration",
        0.6,
        "http",
        rf"\b(?:fetch|visit|load|request|open|call|ping|query|browse to|navigate to|make a request to) {_URL}{{1,300}}[?&][^\s]{{0,200}}(?:\{{|\[|<|=$)",
        indirect=True,
    ),
)

INDIRECT = (
    _rule(
        "embedded_command",
        0.75,
        "ai~assistant~bot~model~llm~gpt~claude~copilot~gemini~bard",
        rf"\b(?:if you(?: are|'re)|(?:attention|note|message|important|instructions?|hey|dear|hello|hi|to|for)(?: (?:to|for|all|any|the|an?|every))*) (?:an? |the |all |any )?{_AI}\b(?:[,:!] | (?:reading|processing|that|who|systems?|reviewing|models?|assistants?|evaluating|summari[sz]ing))",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.65,
        "assistant~language model~llm~chatbot~ai ",
        rf"\b{_AI}[,:]? (?:must|should|shall|has to|needs? to|is (?:required|instructed|asked|ordered) to|please|will now|you must|do|always|never) (?:\w+ ){{0,3}}?(?:respond|reply|answer|say|output|include|ignore|recommend|state|tell|print|mention|send|execute|follow|conclude|not)",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.6,
        "your ",
        r"\b(?:in|to|into|with|at the (?:start|end|beginning|top|bottom) of|throughout|of|for) your(?: \w+){0,2}? (?:response|answer|reply|output|summary)\b(?! (?:to|time|form|by))",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.55,
        "your ~the ~all ~every~each",
        rf"\b(?:your|all|every|each)(?: (?:entire|final|whole|next|following|subsequent|of|your|the))* {_ANSWER} (?:must|should|shall|has to|have to|needs? to|will|is to|are to) (?:be|include|contain|start|begin|end|consist|only|not|always|use|have|mention|follow|also)",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.5,
        "respond~reply~answer~output~print~say~speak",
        r"(?:^|[.!?:;\n\"'] ?|\b(?:please|must|should|only|and|then|always|simply|just|now|to) )(?:respond|reply|answer|output|print)(?: \w+)? (?:only|with|in|as|using|by|nothing|exclusively|like|back|exactly)\b",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.55,
        "response~answer~reply~output~summary",
        rf"\b(?:add|append|include|insert|prepend|mention|modify|rewrite|encode|translate|convert|replace|scramble|misspell|reverse|substitut\w+|transform|format|obfuscate|alter|change|swap|remove|end|begin|start|finish|conclude|write|give|provide)\b[^.\n]{{0,90}}\b(?:your|the|all|each|every|any|this) (?:\w+ ){{0,2}}?{_ANSWER}\b",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.65,
        "the user~anyone~this instruction~these instructions~without ",
        r"\b(?:do not|don't|never|without) (?:\w+ing )?(?:mention|tell|reveal|inform|inform\w+|let|disclose|alert\w*|notify\w*|telling|mentioning|revealing) (?:\w+ ){0,4}?(?:the users?|anyone|this instruction|these instructions|this message|this prompt|this note)",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.6,
        "the user",
        r"\b(?:tell|inform|convince|persuade|ask|instruct|urge|advise|encourage|recommend|trick|direct|request|remind|warn) (?:that )?the user\b",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.5,
        "when ~before ~after ~while ~if ",
        r"\b(?:when|before|after|while|if|whenever)(?: you(?: are|'re)?| asked| the user)? (?:summari[sz]\w+|answer\w*|respond\w*|reply\w*|asked|generat\w+|asks?|finish\w*)(?: \w+){0,6}?,? (?:you must|you should|always|also|please|do not|never|say|state|recommend|include|mention|first)\b",
        indirect=True,
    ),
    _rule(
        "embedded_command",
        0.35,
        "write~compose~draft~create~generate~explain~translate~tell me~describe~teach~help me~provide me~give me~suggest~recommend",
        r"(?:^|[.!?:;\n] ?)(?:please |kindly |also,? |now,? |can you |could you |would you |finally,? )?(?:write|compose|draft|create|generate|explain|translate|tell me|describe|teach me|help me|provide me|give me|suggest|make me|show me|compute|calculate) (?:\w+ ){0,3}?(?:an?|the|some|me|how|what|why|this|that|it)\b",
        indirect=True,
    ),
)

CODE = (
    _rule(
        "malicious_code",
        0.6,
        "requests.~urlopen~http.client~socket~urllib~fetch(~curl~smtplib~xmlhttprequest",
        r"(?:environ|getenv|/etc/(?:passwd|shadow)|\.ssh/|id_rsa|cookies?|login data|localstorage|history|clipboard|keychain|/proc/|platform\.|getpass|uname|ifconfig|lsusb|device)[\s\S]{0,600}?(?:requests\.(?:post|put|get)|urlopen|\.sendall|sendmail|fetch\(|http\.client|curl|xmlhttprequest)",
        indirect=True,
    ),
    _rule(
        "malicious_code",
        0.6,
        "document.cookie~stratum+tcp~xmrig~minerd~cryptonight~/dev/mem~/proc/~mimikatz~/dev/tcp",
        r"document\.cookie|stratum\+tcp|\bxmrig\b|\bminerd\b|\bcryptonight\b|/dev/(?:mem|kmem)\b|/proc/(?:self|\w+|\{[^}]*\})/(?:mem|maps)\b|\bmimikatz\b|/dev/tcp/",
        indirect=True,
    ),
    _rule(
        "malicious_code",
        0.6,
        "rm -rf~mkfs~shutdown~| sh~| bash~dd if=~:(){",
        r"\brm -rf (?:/|~|\*|--no-preserve)|\bmkfs\.|\bdd if=\S+ of=/dev/|(?:curl|wget) [^\n|]{4,200}\| ?(?:sudo )?(?:ba)?sh\b|:\(\) ?\{ ?:\|:",
        indirect=True,
    ),
    _rule(
        "malicious_code",
        0.5,
        "smtplib~sendmail",
        r"\bfor\b[^\n]{0,60}\b(?:in)\b[\s\S]{0,300}?\bsend(?:mail|_message)\(|send(?:mail|_message)\([\s\S]{0,40}\bfor\b",
        indirect=True,
    ),
    _rule(
        "malicious_code",
        0.5,
        "nmap~scapy~socket~paramiko~bruteforce~brute_force",
        r"\b(?:nmap\.|scapy|paramiko\.)|for \w+ in range\([^\n]{0,40}\)[\s\S]{0,160}?(?:\.connect(?:_ex)?\(|bruteforce)",
        indirect=True,
    ),
    _rule(
        "malicious_code",
        0.5,
        "b64decode~exec(~eval(~marshal~fromhex",
        r"\b(?:exec|eval)\( ?(?:\w+\.)*(?:b64decode|decompress|loads|fromhex|decode|urlopen|compile)\b",
        indirect=True,
    ),
)

RULES: tuple[Rule, ...] = (
    OVERRIDE + MARKERS + PERSONA + EXTRACTION + TOOLS + EXFILTRATION + INDIRECT + CODE
)
